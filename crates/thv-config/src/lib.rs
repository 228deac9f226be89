//! The application's `config.yaml`.
