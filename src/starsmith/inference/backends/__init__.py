"""Models that others run, behind `TextEngine`: one thin adapter a file, and what spreads requests over several."""
