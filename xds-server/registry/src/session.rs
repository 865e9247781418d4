//! Placeholder for the supervisor (being written).
#[derive(Clone, Debug, Default)]
pub struct SuperviseOptions;
pub async fn supervise() {}
