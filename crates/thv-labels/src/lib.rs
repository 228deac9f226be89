//! Label keys, standard labels and selectors of MCP workloads.
//!
//! Labels are how a workload is found again on an engine, and how its user sorts it. The standard ones are ToolHive's;
//! one more, `toolhive-owner`, tells which installation made a container.
//!
//! ```
//! use std::collections::BTreeMap;
//! use thv_labels::{Facts, Selector, user_labels};
//! use thv_core::TransportType;
//!
//! let facts = Facts {
//!     container_name: "fetch",
//!     base_name: "fetch",
//!     transport: TransportType::Stdio,
//!     port: 34127,
//! };
//! let mut labels = facts.standard_labels();
//! labels.insert("env".to_owned(), "dev".to_owned());
//! assert_eq!(labels["toolhive-basename"], "fetch");
//! assert_eq!(user_labels(&labels), BTreeMap::from([("env".to_owned(), "dev".to_owned())]));
//!
//! let selector: Selector = "env in (dev,test),!team".parse()?;
//! assert!(selector.matches(&labels));
//! # Ok::<(), thv_labels::LabelError>(())
//! ```

mod standard;

mod syntax;

mod selector;
mod selector_parse;

mod error;

pub use error::LabelError;
pub use selector::{Requirement, Selector};
pub use standard::{
    AUXILIARY, AUXILIARY_WORKLOAD, BASE_NAME, Facts, GROUP, NAME, NETWORK_ISOLATION, OWNER, PORT, TOOLHIVE,
    TRANSPORT, base_name, is_auxiliary, is_isolated, is_standard, is_toolhive, port, transport, user_labels,
    with_isolation,
};
pub use syntax::{parse_user_label, validate_key, validate_value};
