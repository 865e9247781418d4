//! Clusters that come and change, and their endpoints.

use leadsman_tests::ads::Kind::{Clusters, Endpoints};
use leadsman_tests::ads::{self, Ads};
use leadsman_tests::envoy::Envoy;
use leadsman_tests::instance::Instance;

use crate::stage::{
    FILES, SILENCE, begun, bootstrap, changed, cluster, counts, has, impatient, leadsman, on, ports, remove, scripted,
    sorted, stat,
};

crate::observations! {
    l02_endpoints_are_asked_for_before_the_first_clusters_are_acknowledged
    l02_ours_is_asked_in_this_order
    l03_later_clusters_are_acknowledged_when_all_of_them_have_their_endpoints
    l04_a_changed_cluster_waits_for_its_endpoints_and_does_not_ask_for_them
    l05_a_changed_cluster_of_ours_has_its_endpoints_at_once
    l06_endpoints_that_came_before_the_change_of_their_cluster_do_not_end_its_waiting
    l07_endpoints_that_nobody_asked_for_yet_are_taken
    l08_a_removed_clusters_endpoints_are_unsubscribed_before_the_acknowledgement
    l09_a_cluster_that_comes_back_at_once_waits_for_its_endpoints_again
}

async fn l02_endpoints_are_asked_for_before_the_first_clusters_are_acknowledged(version: &str) {
    let (mut ads, envoy) = scripted(version).await;
    let clusters = ["a", "b"].map(|name| ads::cluster("1", &cluster(name)));
    ads.say(Clusters, &clusters, &[]).await;
    // Nothing was said about endpoints: the first acknowledgement does not wait for them.
    assert_eq!(ads.hears(2).await, ["eds +a +b", "cds ack 1"]);
    ads.say(Endpoints, &["a", "b"].map(|name| on("1", name, &[9001])), &[])
        .await;
    assert_eq!(ads.hears(1).await, ["eds ack 2"]);
    has(&envoy, "b", &[9001]).await;
    envoy.assert_clean().await;
}

async fn l02_ours_is_asked_in_this_order(version: &str) {
    let one = [Instance::new(9001)];
    let leadsman = leadsman(&[("a", &one), ("b", &one)]).await;
    let mut ads = Ads::overhearing(leadsman.xds()).await;
    let envoy = Envoy::start_version(version, &bootstrap(ads.address()), 1).await;
    let expected = ["stream", "cds", "eds +a +b", "cds ack 1", "eds ack 2"];
    assert_eq!(ads.hears(5).await, expected);
    envoy.assert_clean().await;
}

async fn l03_later_clusters_are_acknowledged_when_all_of_them_have_their_endpoints(version: &str) {
    let (mut ads, envoy) = begun(version, &[&cluster("a")]).await;
    ads.say(Clusters, &[ads::cluster("1", &cluster("b"))], &[]).await;
    assert_eq!(ads.hears(1).await, ["eds +b"]);
    // Who waits for the acknowledgement before the next response, or before the endpoints, waits for ever.
    ads.say(Clusters, &[ads::cluster("1", &cluster("c"))], &[]).await;
    assert_eq!(ads.hears(1).await, ["eds +c"]);
    ads.say(Endpoints, &[on("1", "b", &[9001])], &[]).await;
    assert_eq!(ads.hears(1).await, ["eds ack 5"]);
    ads.hears_nothing_for(SILENCE).await;
    assert_eq!(ports(&envoy, "b").await, Some([9001].into()));
    assert_eq!(ports(&envoy, "c").await, None);
    ads.say(Endpoints, &[on("1", "c", &[9001])], &[]).await;
    assert_eq!(ads.hears(3).await, ["cds ack 3", "cds ack 4", "eds ack 6"]);
    has(&envoy, "c", &[9001]).await;
    envoy.assert_clean().await;
}

async fn l04_a_changed_cluster_waits_for_its_endpoints_and_does_not_ask_for_them(version: &str) {
    let a = impatient(cluster("a"));
    let (mut ads, envoy) = begun(version, &[&a]).await;
    ads.say(Clusters, &[ads::cluster("2", &changed(&a))], &[]).await;
    counts(&envoy, "cluster_manager.warming_clusters", 1).await;
    assert_eq!(
        ports(&envoy, "a").await,
        Some([9001].into()),
        "the old one serves meanwhile"
    );
    // The next thing that is heard is the acknowledgement at the end of its patience.
    assert_eq!(ads.hears(1).await, ["cds ack 3"]);
    counts(&envoy, "cluster_manager.warming_clusters", 0).await;
    assert_eq!(stat(&envoy, "a", "init_fetch_timeout").await, 1);
    assert_eq!(stat(&envoy, "a", "assignment_use_cached").await, 1);
    assert_eq!(ports(&envoy, "a").await, Some([9001].into()));
}

async fn l05_a_changed_cluster_of_ours_has_its_endpoints_at_once(version: &str) {
    let mut leadsman = leadsman(&[("a", &[Instance::new(9001)])]).await;
    let mut ads = Ads::overhearing(leadsman.xds()).await;
    let envoy = Envoy::start_version(version, &bootstrap(ads.address()), 1).await;
    assert_eq!(
        ads.hears(5).await,
        ["stream", "cds", "eds +a", "cds ack 1", "eds ack 2"]
    );
    leadsman.configure(&format!("{FILES}services: {{ a: {{ connect_timeout: 3s }} }}\n"));
    leadsman.process().hang_up();
    assert_eq!(sorted(ads.hears(2).await), ["cds ack 3", "eds ack 4"]);
    assert_eq!(envoy.stat("cluster_manager.cluster_modified").await, Some(1));
    assert_eq!(envoy.stat("cluster_manager.warming_clusters").await, Some(0));
    has(&envoy, "a", &[9001]).await;
    envoy.assert_clean().await;
}

async fn l06_endpoints_that_came_before_the_change_of_their_cluster_do_not_end_its_waiting(version: &str) {
    let a = impatient(cluster("a"));
    let (mut ads, envoy) = begun(version, &[&a]).await;
    ads.say(Endpoints, &[on("2", "a", &[9002])], &[]).await;
    ads.say(Clusters, &[ads::cluster("2", &changed(&a))], &[]).await;
    assert_eq!(ads.hears(1).await, ["eds ack 3"]);
    counts(&envoy, "cluster_manager.warming_clusters", 1).await;
    assert_eq!(ads.hears(1).await, ["cds ack 4"]);
    assert_eq!(stat(&envoy, "a", "init_fetch_timeout").await, 1);
    assert_eq!(stat(&envoy, "a", "assignment_use_cached").await, 1);
    has(&envoy, "a", &[9002]).await;
}

async fn l07_endpoints_that_nobody_asked_for_yet_are_taken(version: &str) {
    let (mut ads, envoy) = begun(version, &[&cluster("a")]).await;
    ads.say(Clusters, &[ads::cluster("1", &cluster("b"))], &[]).await;
    ads.say(Endpoints, &[on("1", "b", &[9001])], &[]).await;
    // The subscription comes all the same, and asks for them once more.
    assert_eq!(sorted(ads.hears(3).await), ["cds ack 3", "eds +b", "eds ack 4"]);
    has(&envoy, "b", &[9001]).await;
    envoy.assert_clean().await;
}

async fn l08_a_removed_clusters_endpoints_are_unsubscribed_before_the_acknowledgement(version: &str) {
    let one = [Instance::new(9001)];
    let leadsman = leadsman(&[("a", &one), ("b", &one)]).await;
    let mut ads = Ads::overhearing(leadsman.xds()).await;
    let envoy = Envoy::start_version(version, &bootstrap(ads.address()), 1).await;
    ads.hears(5).await;
    remove(&leadsman, "a");
    // Ours says at once that nobody is left, and a moment later that the cluster is gone.
    assert_eq!(ads.hears(3).await, ["eds ack 3", "eds -a", "cds ack 4"]);
    assert_eq!(ads.said()[2..], ["eds 3 +a", "cds 4 -a"]);
    assert_eq!(ports(&envoy, "a").await, None);
    envoy.assert_clean().await;
}

async fn l09_a_cluster_that_comes_back_at_once_waits_for_its_endpoints_again(version: &str) {
    let (a, b) = (cluster("a"), cluster("b"));
    let (mut ads, envoy) = begun(version, &[&a, &b]).await;
    ads.say(Clusters, &[], &["b"]).await;
    ads.say(Clusters, &[ads::cluster("1", &b)], &[]).await;
    assert_eq!(sorted(ads.hears(3).await), ["cds ack 3", "eds +b", "eds -b"]);
    // What Envoy had of it does not count, though it is what it would be sent.
    ads.hears_nothing_for(SILENCE).await;
    assert_eq!(ports(&envoy, "b").await, None);
    ads.say(Endpoints, &[on("1", "b", &[9001])], &[]).await;
    assert_eq!(sorted(ads.hears(2).await), ["cds ack 4", "eds ack 5"]);
    has(&envoy, "b", &[9001]).await;
    envoy.assert_clean().await;
}
