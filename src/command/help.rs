//! `LOCK.HELP`: every command with its syntax and one sentence.

use super::spec::Spec;

pub(crate) const SPEC: Spec = Spec {
    name: "lock.help",
    summary: "Lists the commands of this module.",
    flags: "readonly fast allow-loading allow-stale",
    arity: 1,
    acl: "read fast",
    ..Spec::KEYLESS
}
.with_grammar();

/// The lines of the reply, if these are the commands.
pub(crate) fn lines(commands: &[&'static Spec]) -> impl Iterator<Item = String> {
    commands.iter().flat_map(|spec| [spec.syntax(), format!("    {}", spec.summary)])
}
