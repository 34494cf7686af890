//! Pure builders: Jobs, the maintenance page, patches. No client, no clock.

pub mod task;
