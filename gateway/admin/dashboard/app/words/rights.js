export default {
  "rights.role": "Role",
  "rights.role.viewer": "Reads.",
  "rights.role.operator": "Reads, and operates: kick, disable, drain, reload, start and stop.",
  "rights.role.publisher": "Reads, and sends data through the console.",
  "rights.role.admin": "Does everything within the scopes.",
  "rights.role.auditor": "Reads, the audit among it.",
  "rights.scopes": "Scopes: of what",
  "rights.all": "All",
  "rights.none": "none",
};
