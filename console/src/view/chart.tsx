/**
 * The curve, drawn by uPlot. Colours are read from the style sheet at each drawing, so a change of theme is one redraw. The time axis
 * starts at a minute and grows with what is known, to five; the page around it never moves.
 */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { short, timeOfDay } from "../format";
import { type History, type Peak, SECONDS_SHOWN_MIN } from "../live/history";

/** Room beside the curve for the half of a time that stands under its end, in pixels. */
const LABEL_HALF = 28;

export interface ChartProps {
  readonly history: History;
  /** The picture in words. */
  readonly label: string;
  /** Told the second under the pointer; null when it leaves. */
  readonly onPoint: (point: Peak | null) => void;
}

export function Chart({ history, label, onPoint }: ChartProps) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  useEffect(() => {
    if (frame.current === null) return undefined;
    const drawn = new uPlot(options(frame.current, onPoint), [[], []], frame.current);
    plot.current = drawn;
    const stop = keepInStep(drawn, frame.current);
    return () => {
      stop();
      drawn.destroy();
    };
  }, [onPoint]);
  useEffect(() => plot.current?.setData([[...history.seconds], [...history.events]]), [history]);
  return <div class="chart" ref={frame} role="img" aria-label={label} />;
}

/** Redraws when the frame's size or the theme changes; returns how to stop. */
function keepInStep(plot: uPlot, frame: HTMLElement): () => void {
  const sizes = new ResizeObserver(() => plot.setSize(sizeOf(frame)));
  sizes.observe(frame);
  const themes = new MutationObserver(() => plot.redraw(false, true));
  themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  return () => {
    sizes.disconnect();
    themes.disconnect();
  };
}

function sizeOf(frame: HTMLElement): { width: number; height: number } {
  return { width: frame.clientWidth, height: frame.clientHeight };
}

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function options(frame: HTMLElement, onPoint: ChartProps["onPoint"]): uPlot.Options {
  const font = `11px ${getComputedStyle(frame).fontFamily}`;
  const axis = { font, stroke: () => color("--ink-quiet"), ticks: { show: false }, border: { show: false } };
  return {
    ...sizeOf(frame),
    padding: [8, LABEL_HALF, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 8, fill: () => color("--accent"), stroke: () => color("--card") } },
    scales: { x: { time: true, range: timeRange }, y: { range: countRange } },
    axes: [
      { ...axis, size: 26, space: 90, grid: { show: false }, values: (_, seconds) => seconds.map((second) => timeOfDay(second * 1000)) },
      {
        ...axis,
        size: 46,
        gap: 8,
        space: 44,
        incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6],
        grid: { stroke: () => color("--line"), width: 1 },
        values: (_, counts) => counts.map(short),
      },
    ],
    series: [{}, { stroke: () => color("--accent"), width: 2, fill: wash, points: { show: false }, spanGaps: false }],
    hooks: { setCursor: [(plot) => onPoint(pointOf(plot))] },
  };
}

function timeRange(_: uPlot, low: number | null, high: number | null): [number, number] {
  const end = high ?? Math.floor(Date.now() / 1000) - 1;
  return [Math.min(low ?? end, end - SECONDS_SHOWN_MIN + 1), end];
}

/** From zero, with air above; never so small that single views look like a storm. */
function countRange(_: uPlot, __: number | null, high: number | null): [number, number] {
  return [0, Math.max(4, (high ?? 0) * 1.12)];
}

function wash(plot: uPlot): CanvasGradient | string {
  const { top, height } = plot.bbox;
  if (height <= 0) return "transparent";
  const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, color("--wash-high"));
  gradient.addColorStop(1, color("--wash-low"));
  return gradient;
}

function pointOf(plot: uPlot): Peak | null {
  const index = plot.cursor.idx;
  if (index === null || index === undefined) return null;
  const second = plot.data[0][index];
  const events = plot.data[1]?.[index];
  return second === undefined || events === undefined || events === null ? null : { second, events };
}
