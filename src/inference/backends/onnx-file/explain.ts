// What a message of ONNX Runtime about a file that it cannot load means, and what mends it.

const mostText = 200;

/** Text out of a model file, which may be of any length. */
export const short = (text: string): string => (text.length <= mostText ? text : `${text.slice(0, mostText)}…`);

/** Turns a message of ONNX Runtime into one that gives the mend. */
export function explain(error: unknown, path: string): Error {
  const text = error instanceof Error ? error.message : String(error);
  const because = (message: string): Error => new Error(message, { cause: error });
  const ir = /Unsupported model IR version: (\d+), max supported IR version: (\d+)/.exec(text);
  if (ir !== null)
    return because(
      `${path} has the ONNX IR version ${ir[1]}, and ONNX Runtime here knows those up to ${ir[2]}: save it with an older one (in Python: \`m = onnx.load("model.onnx"); m.ir_version = ${ir[2]}; onnx.save(m, "model.onnx")\`), or name a newer onnxruntime-node in onnxRuntime.packageFolder`,
    );
  const opset = /Opset (\d+) is under development.*official support for domain (\S+) is till opset (\d+)/s.exec(text);
  if (opset !== null)
    return because(
      `${path} is for opset ${opset[1]} of ${opset[2]}, and ONNX Runtime here knows those up to ${opset[3]}: export it for an older one (in Python: \`opset_version=${opset[3]}\` of torch.onnx.export, \`target_opset\` of skl2onnx and onnxmltools), or name a newer onnxruntime-node in onnxRuntime.packageFolder`,
    );
  const custom = /Fatal error: (\S*):(\S+?)\(-?\d+\) is not a registered function\/op/.exec(text);
  if (custom !== null)
    return because(
      `${path} needs the operator ${custom[2]} of the domain ${custom[1]}, which ONNX Runtime here does not have: export the model with operators of ONNX alone`,
    );
  const unknown = /No Op registered for (\S+) with domain_version of (\d+)/.exec(text);
  if (unknown !== null)
    return because(
      `${path} needs the operator ${unknown[1]}, which opset ${unknown[2]} does not have: export the model for another opset`,
    );
  const kernel = /Could not find an implementation for (\S+?)\((\d+)\) node/.exec(text);
  if (kernel !== null)
    return because(
      `${path} uses the operator ${kernel[1]} (opset ${kernel[2]}) with a type for which ONNX Runtime here has no implementation: export the model as float32`,
    );
  return error instanceof Error ? error : new Error(text);
}
