export default {
  "account.title": "Your account",
  "account.name": "Name",
  "account.role": "Role",
  "account.scopes": "May read",
  "account.changed": "The new password holds from now on.",
};
