//! Elements that libvirt knows and this crate does not read yet.

/// Declares the type of a device that is refused until somebody implements it.
macro_rules! unsupported_device {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        ///
        /// The element is refused when it is read, so there is never a value.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            /// Where the element stands.
            pub place: crate::Place,
            /// What all devices have.
            pub info: crate::devices::DeviceInfo,
        }

        impl $name {
            pub(crate) fn parse(reader: &crate::Reader<'_>) -> Option<Self> {
                reader.refuse_unsupported();
                None
            }

            pub(crate) fn write(&self, _writer: &mut crate::Writer) {}
        }
    };
}

pub(crate) use unsupported_device;
