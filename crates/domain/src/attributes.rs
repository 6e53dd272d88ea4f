//! Elements that consist of attributes only, which is most of the domain format.

/// Declares a struct for an element of which only attributes matter, with the way in and the way out.
///
/// Each field is an `Option` of its type and says with which question of [`Reader`](crate::Reader) it is
/// read (`string`, `value`, `number`, `hex`, `keyword`, `yes_no`, `on_off`) and how the attribute is spelled.
///
/// ```
/// domain::attributes! {
///     /// The disk's geometry.
///     pub struct Geometry {
///         /// Cylinders.
///         pub cylinders: u32 = number "cyls",
///         /// Whether the BIOS translates.
///         pub translates: bool = on_off "trans",
///     }
/// }
/// let geometry = Geometry { cylinders: Some(5), translates: None };
/// let mut writer = domain::Writer::new();
/// geometry.write("geometry", &mut writer);
/// assert_eq!(writer.finish(), "<geometry cyls='5'/>\n");
/// ```
#[macro_export]
macro_rules! attributes {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty = $kind:ident $word:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        $visibility struct $name { $($(#[$field_meta])* pub $field: Option<$type>),+ }

        impl $name {
            /// Reads the attributes.
            #[must_use]
            $visibility fn parse(reader: &$crate::Reader<'_>) -> Self {
                Self { $($field: reader.$kind($word)),+ }
            }

            /// Adds the attributes to an element.
            $visibility fn write_attributes<'w>(
                &self,
                element: $crate::OpenElement<'w>,
            ) -> $crate::OpenElement<'w> {
                element$(.optional($word, $crate::attributes!(@text $kind self.$field)))+
            }

            /// Writes the element when it has an attribute.
            $visibility fn write(&self, name: &'static str, writer: &mut $crate::Writer) {
                self.write_attributes(writer.element(name)).empty_if_any();
            }
        }
    };
    (@text yes_no $self:ident.$field:ident) => {
        $self.$field.map(|yes| if yes { "yes" } else { "no" })
    };
    (@text on_off $self:ident.$field:ident) => {
        $self.$field.map(|on| if on { "on" } else { "off" })
    };
    (@text hex $self:ident.$field:ident) => { $self.$field.map(|number| format!("0x{number:x}")) };
    (@text $kind:ident $self:ident.$field:ident) => { $self.$field.as_ref() };
}
