"""How the page of a task looks: one style sheet inside the page, for light and dark screens and for paper."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6779; --line: #dfe3ea; --back: #f6f7f9; --card: #fff;
  --good: #18794e; --good-back: #e6f5ec; --bad: #c0272d; --bad-back: #fdecec; --wait: #9a6700; --wait-back: #fdf3dc;
  --accent: #3450c8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b5; --line: #2c3340; --back: #12151b;
  --card: #1a1f28; --good: #5fcf97; --good-back: #15301f; --bad: #ff8a8a; --bad-back: #3a1a1c; --wait: #f0c05a;
  --wait-back: #35290f; --accent: #93a8ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: .8rem; margin: 1.2rem 0 .35rem; color: var(--soft); text-transform: uppercase; letter-spacing: .05em; }
.quiet { color: var(--soft); margin: .3rem 0; }
code, pre, .mono { font: .86em/1.5 ui-monospace, Menlo, Consolas, monospace; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.1rem 1.35rem;
  margin: 0 0 1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .9rem 1.5rem; margin: 0; }
.facts dt { color: var(--soft); font-size: .8rem; } .facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.badge { display: inline-block; border-radius: 99px; padding: .08rem .7rem; font-size: .82rem; font-weight: 600; }
.good { color: var(--good); background: var(--good-back); } .bad { color: var(--bad); background: var(--bad-back); }
.wait { color: var(--wait); background: var(--wait-back); }
.head { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: baseline; } .head h2 { margin: 0; }
.why { border-left: 4px solid; border-radius: 6px; padding: .55rem .9rem; margin: .9rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.plan .edge { fill: none; stroke: var(--soft); stroke-width: 1.6; }
.plan rect { fill: var(--card); stroke: var(--soft); stroke-width: 1.5; }
.plan .succeeded rect { fill: var(--good-back); stroke: var(--good); }
.plan .failed rect, .plan .outcome_unknown rect { fill: var(--bad-back); stroke: var(--bad); }
.plan .skipped rect, .plan .cancelled rect, .plan .planned rect { stroke-dasharray: 5 4; }
.plan .running rect { fill: var(--wait-back); stroke: var(--wait); }
.plan text { fill: var(--ink); font: 600 14px system-ui, sans-serif; }
.plan .tool { fill: var(--soft); font: 12.5px ui-monospace, Menlo, monospace; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: .8rem; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .9rem .4rem 0; vertical-align: top;
  overflow-wrap: anywhere; }
tr:last-child td { border-bottom: 0; }
td:first-child, td code { white-space: nowrap; }
details { margin: .5rem 0 0; } summary { cursor: pointer; color: var(--accent); font-size: .9rem; }
pre { background: var(--back); border: 1px solid var(--line); border-radius: 8px; padding: .8rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 28rem; }
ul { margin: .2rem 0; padding-left: 1.2rem; } li { margin: .3rem 0; }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
