//! Tells the server about commands: name, flags, key, arity, documentation and ACL categories.

use std::ffi::{c_int, CString};

use super::api::{has, rm, CommandHandle, Ctx, OK};
use super::handler::{command, Handler};
use crate::command::spec::{Key, Spec};

/// The category of all commands for users, where the server lets modules make one.
pub(super) const CATEGORY: &std::ffi::CStr = c"lock";

/// Lists commands: makes a function that adds them all to the server and tells whether it took them, and a constant with
/// their specs, where one is named.
macro_rules! handlers {
    ($add:ident: $($handler:path),+ $(,)?) => {
        pub(in crate::host) fn $add(ctx: $crate::host::api::Ctx) -> bool {
            $($crate::host::register::add::<$handler>(ctx))&&+
        }
    };
    ($(#[$doc:meta])* $specs:ident, $add:ident: $($handler:path),+ $(,)?) => {
        $(#[$doc])*
        pub(crate) const $specs: &[&$crate::command::spec::Spec] =
            &[$(<$handler as $crate::host::handler::Handler>::SPEC),+];

        handlers!($add: $($handler),+);
    };
}
pub(super) use handlers;

/// Makes the command `V`.
pub(super) fn add<V: Handler>(ctx: Ctx) -> bool {
    let spec = V::SPEC;
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let (name, flags) = (text(spec.name), text(spec.flags));
    // A command whose keys follow their number is described below, and not by positions.
    let at = c_int::from(matches!(spec.key, Key::Read | Key::Write | Key::ReadAndMore));
    let run = Some(command::<V> as _);
    rm!(RedisModule_CreateCommand(ctx.as_ptr(), name.as_ptr(), run, flags.as_ptr(), at, at, at)) == OK
        && CommandHandle::named(ctx, &name)
            .is_some_and(|made| made.describe(spec) && made.categorize(&text(&categories(spec))))
}

/// Its categories. Before 7.2 a module command has none, and ACL rules name it.
fn categories(spec: &Spec) -> String {
    let has_own = has!(RedisModule_AddACLCategory) && !spec.is_internal();
    let own = if has_own { CATEGORY.to_str().unwrap_or_default() } else { "" };
    format!("{} {own}", spec.acl).trim_end().to_owned()
}
