/** A number that tests and other programs can read exactly: `data-value` holds its digits, the text is for people. */

import { count, UNKNOWN } from "../format";

export interface NumberProps {
  readonly id: string;
  /** null: not known yet. */
  readonly value: number | null;
  readonly unit?: string;
  readonly write?: (value: number) => string;
}

export function NumberText({ id, value, unit, write = count }: NumberProps) {
  return (
    <span class="number">
      <span data-testid={id} data-value={value ?? ""} class={value === null ? "unknown" : ""}>
        {value === null ? UNKNOWN : write(value)}
      </span>
      {unit !== undefined && <span class="unit">{unit}</span>}
    </span>
  );
}
