//! The etcd adapter against the registry contract, and against everything a network or an etcd can do to it, with a
//! real etcd of two versions behind a proxy that breaks on request.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod history;
mod network;
mod server;

use leadsman_tests::contract;
use leadsman_tests::etcd::Version;

use leadsman_tests::rigs::etcd::Rig;

contract! {
    etcd_3_5 => Rig::start(Version::V35);
    etcd_3_6 => Rig::start(Version::V36);
}

/// Makes one test of each behaviour for each version.
macro_rules! on_both {
    ($($module:ident { $($behaviour:ident,)+ })+) => {
        mod faults_3_5 {
            use super::*;
            $($(#[tokio::test] async fn $behaviour() { $module::$behaviour(Version::V35).await; })+)+
        }
        mod faults_3_6 {
            use super::*;
            $($(#[tokio::test] async fn $behaviour() { $module::$behaviour(Version::V36).await; })+)+
        }
    };
}

on_both! {
    network {
        a_closed_connection_misses_nothing,
        a_silent_path_is_noticed_and_caught_up_with,
        an_etcd_that_hangs_is_noticed_and_caught_up_with,
        a_storm_of_resets_loses_no_change,
        a_slow_network_only_delays,
        a_narrow_network_gets_one_listing_through,
    }
    history {
        an_expired_lease_takes_its_instances_in_one_step,
        a_compaction_during_an_outage_hides_no_removal,
        a_compaction_that_overtakes_a_slow_watch_hides_no_removal,
        a_revision_of_seven_mebibytes_arrives_whole,
        a_listing_larger_than_a_message_arrives_whole,
        twenty_thousand_keys_are_listed_in_pages_while_history_is_compacted,
        keys_beside_the_prefix_do_not_count,
        a_reconcile_with_nothing_lost_finds_nothing,
        a_quiet_registry_is_compared_with_too,
    }
    server {
        a_refused_password_is_told_apart_and_the_right_one_is_read_anew,
        an_expired_token_costs_neither_state_nor_changes,
        a_killed_etcd_says_nothing_and_comes_back_without_drift,
        an_etcd_that_lost_its_data_is_a_new_epoch,
        an_etcd_that_lost_its_data_and_wrote_as_much_again_is_a_new_epoch,
        an_etcd_of_another_cluster_is_a_new_epoch,
    }
}
