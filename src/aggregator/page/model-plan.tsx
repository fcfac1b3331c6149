// What an open model's row shows below its charts: its inputs and outputs, how requests share a run, and why not.

import { dimsText, labelsText, nameText, roleText } from '../../plan-text.js';
import type { ServedModels, ServedPlan, ServedTensor, ServedVersion } from '../served-models.js';
import { asking } from './asked.js';

/** A reload changes plans. */
const useServedModels = asking<ServedModels>('api/models');

export function ModelPlan({ name }: { readonly name: string }) {
  const answer = useServedModels();
  if (answer === null) return <p class="plan-text">Its plan is on the way…</p>;
  if (answer === 'failed') return <p class="plan-text">Its plan cannot be read: the aggregator does not answer.</p>;
  const served = answer.models.find((model) => model.name === name)?.served ?? [];
  if (served.length === 0) return <p class="plan-text">No worker serves it now.</p>;
  return (
    <>
      {served.map((version) => (
        <VersionPlan key={`${version.version} ${version.nodes.join(' ')}`} model={name} served={version} />
      ))}
    </>
  );
}

function VersionPlan({ model, served }: { readonly model: string; readonly served: ServedVersion }) {
  const { version, nodes, plan, runs_alone_because: because } = served;
  const title = `${version === 'unversioned' ? 'Plan' : `Plan of version ${version}`}, on ${nodesText(nodes)}`;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: who has no mouse scrolls a wide plan with the keyboard
    <section class="plan" tabIndex={0} aria-label={`${title}, of ${model}`}>
      <h3>{title}</h3>
      <p class={because === null ? 'plan-text' : 'plan-text alone'}>
        {because === null ? sharingText(served) : `Each request gets a run of its own: ${because}.`}
      </p>
      {plan === null ? (
        <p class="plan-text">{unknownText(served)}</p>
      ) : (
        <>
          <Tensors plan={plan} />
          {plan.notes.map((note) => (
            <p key={note} class="plan-text">
              {note}
            </p>
          ))}
          {plan.is_cut && (
            <p class="plan-text">There is more of it than fits here: ml-tcp-server status --json has all.</p>
          )}
        </>
      )}
    </section>
  );
}

function sharingText({ max_rows: most, max_rows_because: why }: ServedVersion): string {
  const reasons = why.filter((reason) => reason !== 'maxBatchSize').join('; ');
  const size = most === 1 ? 'Requests may share a run, and have one each now' : `Up to ${most} requests share a run`;
  return `${size}${reasons === '' ? '' : ` (${reasons})`}.`;
}

const unknownText = ({ signature }: ServedVersion): string =>
  signature === null ? 'Its node has not told what it takes.' : 'What its payloads mean, only the model knows.';

const maxNodes = 5;

const nodesText = (nodes: readonly string[]): string =>
  nodes.length > maxNodes
    ? `${nodes.slice(0, maxNodes).join(', ')} and ${nodes.length - maxNodes} more`
    : nodes.join(', ');

const columns = ['', 'name', 'dtype', 'in the model', 'of a request', 'batch'];

function Tensors({ plan: { inputs, outputs, input_count, output_count, is_cut } }: { readonly plan: ServedPlan }) {
  const hasLabels = outputs.some(({ labels }) => labels !== null);
  return (
    <table>
      <thead>
        <tr>
          {[...columns, ...(hasLabels ? ['labels'] : [])].map((title) => (
            <th key={title} scope="col">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {inputs.map((input, i) => (
          <Tensor
            key={`input ${i} ${input.name}`}
            kind="input"
            tensor={input}
            role={roleText({ batchAxis: input.batch_axis, isConstant: input.is_constant })}
            labels={hasLabels ? '' : null}
          />
        ))}
        <More kind="inputs" count={input_count - inputs.length} />
        {outputs.map((output, i) => (
          <Tensor
            key={`output ${i} ${output.name}`}
            kind="output"
            tensor={output}
            role={roleText({ batchAxis: output.batch_axis, isReturned: output.is_returned })}
            labels={hasLabels ? labelsText(output.labels ?? [], is_cut) : null}
          />
        ))}
        <More kind="outputs" count={output_count - outputs.length} />
      </tbody>
    </table>
  );
}

interface TensorProps {
  readonly kind: string;
  readonly tensor: ServedTensor;
  readonly role: string;
  /** Null: there is no column for them. */
  readonly labels: string | null;
}

function Tensor({ kind, tensor: { name, dtype, dims, request_dims }, role, labels }: TensorProps) {
  return (
    <tr>
      <td>{kind}</td>
      <th scope="row">{nameText(name)}</th>
      <td>{dtype}</td>
      <td>{dimsText(dims)}</td>
      <td>{dimsText(request_dims)}</td>
      <td>{role}</td>
      {labels !== null && <td class="long">{labels}</td>}
    </tr>
  );
}

function More({ kind, count }: { readonly kind: string; readonly count: number }) {
  if (count <= 0) return null;
  return (
    <tr>
      <td />
      <td colSpan={columns.length - 1}>
        and {count} more {kind}
      </td>
    </tr>
  );
}
