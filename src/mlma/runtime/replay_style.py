"""The style sheet of a replay's report, light and dark."""

STYLE = """
:root {
  color-scheme: light dark; --paper: #fff; --ink: #1c2126; --muted: #66707a; --rule: #dfe3e7; --good: #e3f2e5;
  --agent: #0b6bcb; --latest: #8a5a00; --pooled: #1a7f4b; --frontier: #a02c6d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --ink: #e4e8ec; --muted: #98a2ac; --rule: #30363c; --good: #1d3a26;
    --agent: #6cb2ff; --latest: #e0a94a; --pooled: #5fce92; --frontier: #e58abd;
  }
}
body {
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 60rem; padding: 1.5rem 1rem 4rem;
}
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p { max-width: 46rem; }
.muted { color: var(--muted); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td {
  border-bottom: 1px solid var(--rule); padding: .25rem .5rem; text-align: right; white-space: nowrap;
}
th:first-child, td:first-child, td.text { text-align: left; }
td.text { overflow-wrap: anywhere; white-space: normal; }
td.best { background: var(--good); font-weight: 600; }
td small { color: var(--muted); }
pre {
  border: 1px solid var(--rule); border-radius: 6px; font-size: .85rem; overflow-wrap: anywhere;
  padding: .75rem 1rem; white-space: pre-wrap;
}
svg { display: block; height: auto; width: 100%; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg text.label { paint-order: stroke; stroke: var(--paper); stroke-linejoin: round; stroke-width: 3px; }
svg text.tick, svg text.axis, svg text.muted { fill: var(--muted); }
.grid { stroke: var(--rule); }
.grid.one { stroke: var(--muted); }
.leader { stroke: var(--muted); stroke-width: .7; }
.frontier { fill: none; stroke: var(--frontier); stroke-width: 2; }
.frontier-dot { fill: var(--frontier); }
circle.agent, rect.agent, svg text.agent { fill: var(--agent); }
circle.latest, rect.latest, svg text.latest { fill: var(--latest); }
circle.pooled, rect.pooled, svg text.pooled { fill: var(--pooled); }
line.agent { stroke: var(--agent); }
line.latest { stroke: var(--latest); }
line.pooled { stroke: var(--pooled); }
.whisker { stroke-width: 1.5; }
.median { stroke-width: 2.5; }
.stream { opacity: .45; }
rect.box { opacity: .3; }
"""
