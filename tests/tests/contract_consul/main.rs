//! The Consul adapter against the registry contract, and against everything a network or a Consul can do to it, with a
//! real Consul, with and without its streaming backend, behind a proxy that breaks on request.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod cluster;
mod instances;
mod network;
mod odd;
mod server;

use leadsman_tests::consul::Setup;
use leadsman_tests::contract;

use leadsman_tests::rigs::consul::Rig;

/// Blocking questions answered as older Consuls do.
fn indexed() -> Setup {
    Setup {
        without_streaming: true,
        ..Setup::default()
    }
}

contract! {
    streaming => Rig::start(Setup::default());
    indexed => Rig::start(indexed());
}

/// Makes one test of each behaviour for each backend.
macro_rules! on_both {
    ($($module:ident { $($behaviour:ident,)+ })+) => {
        mod faults_streaming {
            use super::*;
            $($(#[tokio::test] async fn $behaviour() { $module::$behaviour(Setup::default()).await; })+)+
        }
        mod faults_indexed {
            use super::*;
            $($(#[tokio::test] async fn $behaviour() { $module::$behaviour(indexed()).await; })+)+
        }
    };
}

on_both! {
    network {
        a_closed_connection_misses_nothing,
        a_silent_path_is_noticed_and_caught_up_with,
        a_consul_that_hangs_is_noticed_and_caught_up_with,
        a_storm_of_resets_loses_no_change,
    }
    server {
        a_killed_consul_says_nothing_and_comes_back_without_drift,
        a_consul_that_lost_its_data_is_a_new_epoch,
        more_services_than_watches_fit_into_the_connections_a_client_may_have,
        a_reconcile_with_nothing_lost_finds_nothing,
    }
    access {
        a_refused_token_is_told_apart_and_the_right_one_is_read_anew,
        a_token_that_is_taken_away_empties_nothing,
        a_right_that_is_taken_away_empties_nothing,
        an_anonymous_reader_does_not_believe_in_emptiness,
        an_agent_that_asks_for_certificates_is_read_with_one,
    }
    cluster {
        a_cluster_without_a_leader_keeps_everything_and_says_so,
        a_leader_that_dies_costs_nothing,
        an_agent_that_asks_anybody_is_told_to_ask_the_leader,
        another_datacentre_is_read_through_the_agents_of_this_one,
        a_consul_that_was_set_back_while_nobody_looked_is_a_new_epoch,
        a_consul_that_is_set_back_before_our_eyes_is_a_new_epoch,
    }
    instances {
        every_check_counts,
        an_agent_in_maintenance_drains_its_instances,
        a_name_that_no_question_can_hold_rejects_itself,
        names_that_differ_in_case_share_their_instances,
        a_tagged_address_is_taken_where_there_is_one,
        registrations_of_frameworks_are_read_from_a_real_consul,
    }
}
