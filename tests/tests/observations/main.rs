//! How Envoy itself behaves where the specification is silent or says otherwise, and what a server therefore has to do:
//! the observations that the engine rests on, each on every Envoy that is supported.
//!
//! Where a correct server can bring one about, it is ours that does, and what Envoy asks is overheard on the way. What a
//! correct server never does is scripted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod absence;
mod health;
mod reconnect;
mod refusals;
mod stage;
mod warming;

/// One test of each observation for each Envoy.
#[macro_export]
macro_rules! observations {
    ($($name:ident)+) => {$(
        mod $name {
            #[tokio::test]
            async fn envoy_1_36() {
                super::$name(leadsman_tests::envoy::VERSIONS[0]).await;
            }

            #[tokio::test]
            async fn envoy_1_38() {
                super::$name(leadsman_tests::envoy::VERSIONS[1]).await;
            }

            #[tokio::test]
            async fn envoy_1_40() {
                super::$name(leadsman_tests::envoy::VERSIONS[2]).await;
            }
        }
    )+};
}
