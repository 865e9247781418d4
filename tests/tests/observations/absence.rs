//! Endpoints that are not there, and the three ways to say so.

use leadsman_tests::ads::Kind::{Clusters, Endpoints};
use leadsman_tests::ads::{self, Ads};
use leadsman_tests::envoy::Envoy;
use leadsman_tests::instance::Instance;

use crate::stage::{
    add_static_cluster, begun, bootstrap, cluster, counts, has, leadsman, on, ports, sorted, stat, unnumbered, write,
};

crate::observations! {
    l11_a_removal_of_what_never_came_ends_the_waiting
    l11_ours_says_so_of_a_service_that_does_not_exist
    l12_a_removal_of_endpoints_that_came_keeps_them
    l13_an_empty_assignment_of_ours_takes_them_away
}

async fn l11_a_removal_of_what_never_came_ends_the_waiting(version: &str) {
    let (mut ads, envoy) = begun(version, &[&cluster("a")]).await;
    ads.say(Clusters, &[ads::cluster("1", &cluster("b"))], &[]).await;
    assert_eq!(ads.hears(1).await, ["eds +b"]);
    ads.say(Endpoints, &[], &["b"]).await;
    assert_eq!(sorted(ads.hears(2).await), ["cds ack 3", "eds ack 4"]);
    has(&envoy, "b", &[]).await;
    envoy.assert_clean().await;
}

async fn l11_ours_says_so_of_a_service_that_does_not_exist(version: &str) {
    let leadsman = leadsman(&[("a", &[Instance::new(9001)])]).await;
    let mut ads = Ads::overhearing(leadsman.xds()).await;
    let mut bootstrap = bootstrap(ads.address());
    add_static_cluster(&mut bootstrap, "fixed", "nobody");
    // It would not be ready before the end of its patience, which is 15 s here, and that is counted.
    let envoy = Envoy::start_version(version, &bootstrap, 1).await;
    has(&envoy, "fixed", &[]).await;
    has(&envoy, "a", &[9001]).await;
    envoy.assert_clean().await;
    assert_eq!(ads.hears(3).await, ["stream", "eds +nobody", "cds"]);
    assert_eq!(unnumbered(ads.said()), ["cds +a", "eds +a", "eds -nobody"]);
}

async fn l12_a_removal_of_endpoints_that_came_keeps_them(version: &str) {
    let (mut ads, envoy) = begun(version, &[&cluster("a")]).await;
    ads.say(Endpoints, &[], &["a"]).await;
    assert_eq!(ads.hears(1).await, ["eds ack 3"]);
    counts(&envoy, "cluster.a.update_empty", 1).await;
    assert_eq!(ports(&envoy, "a").await, Some([9001].into()));
    // It is still subscribed, and what is said next is taken.
    ads.say(Endpoints, &[on("2", "a", &[9002])], &[]).await;
    assert_eq!(ads.hears(1).await, ["eds ack 4"]);
    has(&envoy, "a", &[9002]).await;
    assert_eq!(stat(&envoy, "a", "update_rejected").await, 0);
}

async fn l13_an_empty_assignment_of_ours_takes_them_away(version: &str) {
    let leadsman = leadsman(&[("a", &[Instance::new(9001)])]).await;
    let mut ads = Ads::overhearing(leadsman.xds()).await;
    let envoy = Envoy::start_version(version, &bootstrap(ads.address()), 1).await;
    ads.hears(5).await;
    has(&envoy, "a", &[9001]).await;
    write(&leadsman, "a", "service: a\nendpoints: []\n");
    assert_eq!(ads.hears(1).await, ["eds ack 3"]);
    has(&envoy, "a", &[]).await;
    assert_eq!(stat(&envoy, "a", "update_empty").await, 0);
    envoy.assert_clean().await;
}
