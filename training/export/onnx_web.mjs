// Runs an ONNX file of one image in onnxruntime-web under node, as a browser without a GPU would:
//   node onnx_web.mjs FOLDER MODEL IN.bin HEIGHT WIDTH OUT.bin
// FOLDER: where `npm install onnxruntime-web` was run. The .bin files: float32, 1,3,H,W.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, model, input, height, width, output] = process.argv.slice(2);
const find = createRequire(join(resolve(folder), "package.json"));
const ort = await import(pathToFileURL(find.resolve("onnxruntime-web")));
const { InferenceSession, Tensor, env } = ort.default ?? ort;
env.wasm.numThreads = 1; // more need workers, which browsers and node make differently
const session = await InferenceSession.create(new Uint8Array(readFileSync(model)), {
  executionProviders: ["wasm"],
});
const bytes = readFileSync(input);
const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const image = new Tensor("float32", values, [1, 3, Number(height), Number(width)]);
const { restored } = await session.run({ image });
writeFileSync(output, new Uint8Array(restored.data.buffer, restored.data.byteOffset, restored.data.byteLength));
