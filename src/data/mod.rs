//! Work on data: PostgreSQL and repositories. Knows no Kubernetes.
