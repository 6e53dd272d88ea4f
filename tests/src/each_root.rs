//! Tests that run on every root.

/// Makes a test of each function on each root, called for instance `trixie::a_guest_stops`.
///
/// A function takes a [`Root`](crate::Root) and returns [`anyhow::Result<()>`].
#[macro_export]
macro_rules! on_each_root {
    ($($test:ident),+ $(,)?) => {
        $crate::on_root!(bookworm, Bookworm, $($test),+);
        $crate::on_root!(trixie, Trixie, $($test),+);
        $crate::on_root!(forky, Forky, $($test),+);
    };
}

/// Makes a test of each function on one root, see [`on_each_root`](crate::on_each_root).
#[macro_export]
macro_rules! on_root {
    ($module:ident, $root:ident, $($test:ident),+ $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $test() -> anyhow::Result<()> {
                    if $crate::ready(concat!(module_path!(), "::", stringify!($test))) {
                        super::$test($crate::Root::$root)?;
                    }
                    Ok(())
                }
            )+
        }
    };
}
