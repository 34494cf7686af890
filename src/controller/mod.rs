//! The controllers: read, decide by `plan`, write status, act, report.
