export default {
  "drawing.in": "Larger",
  "drawing.out": "Smaller",
  "drawing.fit": "All of it",
  "drawing.described": "{label}: {nodes} {nodes|thing|things}, {edges} {edges|line|lines}. The tables say the same.",
};
