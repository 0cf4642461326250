export default {
  "diff.none": "Nothing was changed.",
  "diff.changes": "What was changed",
  "diff.name": "Name",
  "diff.before": "Before",
  "diff.after": "After",
};
