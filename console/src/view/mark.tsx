/** The project's sign: a swell that grows. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round">
      <path d="M4 25c5 0 6-2.500 12-2.500s7 2.500 12 2.500" opacity=".45" />
      <path d="M4 19c5 0 5.500-5.500 12-5.500s7 5.500 12 5.500" opacity=".7" />
      <path d="M4 13c5 0 6-8 12-8s7 8 12 8" />
    </svg>
  );
}
