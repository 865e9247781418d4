//! A stream that ends, and what the next one begins with.

use leadsman_tests::ads::Ads;
use leadsman_tests::envoy::Envoy;
use leadsman_tests::instance::Instance;

use crate::stage::{add_static_cluster, bootstrap, has, leadsman, unnumbered, write};

crate::observations! {
    l23_a_new_stream_begins_with_the_versions_of_everything_that_is_held
    l23_a_new_stream_has_the_types_in_the_order_in_which_they_were_first_asked_for
}

async fn l23_a_new_stream_begins_with_the_versions_of_everything_that_is_held(version: &str) {
    let one = [Instance::new(9001)];
    let leadsman = leadsman(&[("a", &one), ("b", &one)]).await;
    let mut ads = Ads::overhearing(leadsman.xds()).await;
    let envoy = Envoy::start_version(version, &bootstrap(ads.address()), 1).await;
    let first = ["stream", "cds", "eds +a +b", "cds ack 1", "eds ack 2"];
    assert_eq!(ads.hears(5).await, first);
    ads.cut();
    let again = ["stream", "cds has a b", "eds +a +b has a b"];
    assert_eq!(ads.hears(3).await, again);
    // Ours has nothing to send again. Envoy waits for an answer about its clusters, and that is an empty one.
    assert_eq!(ads.hears(1).await, ["cds ack 1"]);
    assert_eq!(ads.said(), ["cds 1"]);
    write(
        &leadsman,
        "a",
        "service: a\nendpoints: [{ address: 127.0.0.1, port: 9002 }]\n",
    );
    assert_eq!(ads.hears(1).await, ["eds ack 2"]);
    assert_eq!(ads.said(), ["cds 1", "eds 2 +a"]);
    has(&envoy, "a", &[9002]).await;
    envoy.assert_clean().await;
}

async fn l23_a_new_stream_has_the_types_in_the_order_in_which_they_were_first_asked_for(version: &str) {
    let leadsman = leadsman(&[("a", &[Instance::new(9001)])]).await;
    let mut ads = Ads::overhearing(leadsman.xds()).await;
    let mut bootstrap = bootstrap(ads.address());
    add_static_cluster(&mut bootstrap, "fixed", "nobody");
    let envoy = Envoy::start_version(version, &bootstrap, 1).await;
    assert_eq!(ads.hears(3).await, ["stream", "eds +nobody", "cds"]);
    let answers = ["cds ack", "eds +a", "eds ack", "eds ack"];
    assert_eq!(unnumbered(ads.hears(4).await), answers);
    ads.cut();
    // Who does not exist is asked for again, and has no version.
    let again = ["stream", "eds +a +nobody has a", "cds has a"];
    assert_eq!(ads.hears(3).await, again);
    assert_eq!(unnumbered(ads.hears(2).await), ["cds ack", "eds ack"]);
    assert_eq!(unnumbered(ads.said()), ["cds", "eds -nobody"]);
    envoy.assert_clean().await;
}
