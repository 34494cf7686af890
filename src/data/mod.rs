//! Data and where it is kept: PostgreSQL servers, volumes and backup repositories. Knows runs and epochs only as words and numbers;
//! Kubernetes not at all.

pub mod mask;
pub mod postgres;
pub mod repository;
pub mod s3;
pub mod stop;
pub mod volume;
