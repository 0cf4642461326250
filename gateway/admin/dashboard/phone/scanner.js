// The text of a QR code before the camera. By the browser where it can (BarcodeDetector), else by jsQR.

const LOOK_MS = 150;
const WIDEST = 800; // pixels of a picture that is looked at: more cost time and find no more

/** Resolves to the text. Throws a text for a person where there is no camera. */
export async function scan(video, signal) {
  if (!navigator.mediaDevices) throw new Error("A browser gives the camera to pages over https: or on localhost alone; paste the line.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(`No camera (${error.name}); paste the line.`);
  }
  try {
    video.srcObject = stream;
    video.hidden = false;
    await video.play();
    const read = await reader();
    for (;;) {
      signal?.throwIfAborted();
      const found = video.videoWidth ? await read(video) : "";
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  } finally {
    video.hidden = true;
    video.srcObject = null;
    for (const track of stream.getTracks()) track.stop();
  }
}

async function reader() {
  if ("BarcodeDetector" in globalThis && (await BarcodeDetector.getSupportedFormats()).includes("qr_code")) {
    const detector = new BarcodeDetector({ formats: ["qr_code"] });
    return async (video) => (await detector.detect(video))[0]?.rawValue ?? "";
  }
  const { default: decode } = await import("./vendor/jsqr.js");
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return async (video) => {
    const scale = Math.min(1, WIDEST / video.videoWidth);
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
    return decode(data, width, height, { inversionAttempts: "dontInvert" })?.data ?? "";
  };
}
