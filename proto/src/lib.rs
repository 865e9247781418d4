//! The words that the two ends of a wire share, as `proto/leadsman/**.proto` defines them: server and filter, registry
//! and registered.
//!
//! One place, so that the two ends can't drift apart.

/// `leadsman.endpoint.v1.Metadata`, as it travels in Envoy's endpoint metadata.
pub mod endpoint_metadata {
    /// The key in `filter_metadata`.
    pub const NAMESPACE: &str = "leadsman";
    /// Field 1: changes exactly when something about the endpoint changes.
    pub const REVISION: &str = "rev";
    /// Field 2: the source the endpoint was taken from.
    pub const SOURCE: &str = "src";
}

/// `leadsman.registry.v1`: how services register themselves.
#[cfg(feature = "registry")]
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated"
)]
pub mod registry {
    tonic::include_proto!("leadsman.registry.v1");
}

#[cfg(test)]
mod tests {
    use super::endpoint_metadata::{REVISION, SOURCE};

    #[test]
    fn the_words_are_those_of_the_definition() {
        let definition = include_str!("../leadsman/endpoint/v1/metadata.proto");
        let fields: Vec<&str> = definition
            .lines()
            .filter_map(|line| line.trim().strip_prefix("string "))
            .collect();
        assert_eq!(fields, [format!("{REVISION} = 1;"), format!("{SOURCE} = 2;")]);
    }
}
