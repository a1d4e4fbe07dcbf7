"""One HTML file that shows a run or a comparison: what was found -> SVG text -> a page.

collect, arms     what is read from the disk, as frozen dataclasses
scale             ticks, scales, numbers as texts
svg               elements, colours, frames; lines, bars, forest: the charts, pure functions
run_page, comparison_page   which figures there are, and what they say
html              the page around them
"""
