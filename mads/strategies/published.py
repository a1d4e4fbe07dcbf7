"""Domain mixtures that were published, by name: ``mixture.domain = "doremi"``.

In % of tokens of SlimPajama's seven domains, as arXiv 2410.08102 gives them for its baselines. Each
adds up to 100 but for rounding, which is taken out.
"""

from __future__ import annotations

from collections.abc import Mapping

DOMAINS = ("CommonCrawl", "C4", "GitHub", "Book", "ArXiv", "Wikipedia", "StackExchange")

PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "slimpajama": (52.2, 26.7, 5.2, 4.2, 4.6, 3.8, 3.3),  # the data set's own
    "doremi": (38.11, 11.41, 6.54, 8.19, 4.24, 23.07, 8.47),  # Xie et al. 2023, arXiv 2305.10429
    "doge": (21.35, 26.93, 7.03, 4.50, 8.80, 14.82, 16.58),  # Fan et al. 2023, arXiv 2310.15393
    "dmlaw": (12.5, 25.0, 14.06, 9.38, 25.0, 1.56, 12.5),  # Ye et al. 2024, arXiv 2403.16952
    "regmix": (17.37, 51.03, 0.23, 0.23, 0.08, 29.77, 1.27),  # Liu et al. 2024, arXiv 2407.01492
}


def published(name: str) -> dict[str, float]:
    """Return a published mixture as shares of tokens, which add up to 1."""
    percent = PUBLISHED[name]
    total = sum(percent)
    return {domain: value / total for domain, value in zip(DOMAINS, percent, strict=True)}
