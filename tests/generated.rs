//! What is generated is fresh, and what is written by hand in two places says the same in both.
