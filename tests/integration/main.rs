//! The integration tests: real servers, real sockets. This file only lists the modules.
//!
//! Needs `SERVER_BIN` (a Redis or Valkey server binary) and `MODULE_PATH` (the built module); `make integration` and
//! `make matrix` set both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails; nothing here is loaded into a server"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::format_collect,
    clippy::items_after_statements,
    clippy::match_same_arms,
    clippy::needless_pass_by_value,
    clippy::struct_field_names,
    clippy::too_many_lines,
    reason = "a test is a script: read once from top to bottom, and its constants stand where they are used"
)]

mod acl;
mod acquire;
mod at_rest;
mod backlog;
mod bad_input;
mod blocking;
mod book;
mod bounded;
mod bounds;
mod broken_sync;
mod cases;
mod check;
mod clock;
mod clock_shim;
mod cluster;
mod convert;
mod databases;
mod deadlock;
mod dump_restore;
mod durability;
mod expiry;
mod external;
mod failover;
mod fence;
mod golden;
mod group;
mod guard;
mod harness;
mod incidents;
mod inspect;
mod install;
mod introspection;
mod keyspace_events;
mod latch;
mod listeners;
mod load_aside;
mod load_refusal;
mod memory;
mod modes;
mod observe;
mod old_formats;
mod onlookers;
mod operate;
mod options;
mod other_module;
mod pages;
mod pause;
mod persistence;
mod queue;
mod recovery;
mod reentrant;
mod reference;
mod renew;
mod repeats;
mod replication;
mod replication_events;
mod resp3;
mod round_trips;
mod scan;
mod set_limit;
mod stats;
mod steps;
mod storms;
mod support;
mod tied;
mod time_to_live;
mod torn_aof;
mod tracking;
mod traffic;
mod transactions;
mod transcripts;
mod unload;
mod wait_counts;
