export default {
  "given.once": "The token is shown now and never again. Copy what you need before you leave.",
  "given.token": "Token",
  "given.local": "{url} is an address that only this machine can reach. Set node.advertised_url to what devices can reach, then issue another token.",
  "given.nobody": "No device can reach the address:",
  "given.address": "Address",
  "given.expires": "Holds until",
  "given.line": "Credential in one line",
  "given.qr": "QR code of the credential of {id}",
  "given.scan": "For the phone page, which scans it.",
  "given.browser": "Use this browser as the device",
  "given.browserHint": "Opens the phone page in a new tab, with this credential.",
  "given.programs": "Programs",
};
