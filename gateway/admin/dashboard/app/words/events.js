export default {
  "events.title": "Events",
  "events.time": "Time",
  "events.kind": "Kind",
  "events.subject": "Whom",
  "events.more": "More",
  "events.live": "As they happen",
  "events.empty": "Nothing of the kind has happened since the node was started.",
  "events.kept": "The node remembers the last 10,000 events of this run. What people did is in the audit, for good.",
  "events.number": "Number",
};
