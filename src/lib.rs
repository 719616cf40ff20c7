//! Distributed locks inside the Redis or Valkey server.
mod command;
mod error;
mod limits;
mod primitive;
