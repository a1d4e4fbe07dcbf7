"""Several runs for one answer: the arms of a comparison, the proxies of a fitted mixture."""
