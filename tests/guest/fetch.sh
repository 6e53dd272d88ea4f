# Runs in a throw-away copy of a root: fetches the guest's kernel, the package $package, and programs into /guest.
# /guest/vmlinuz, /guest/modules (uncompressed, with modules.dep and the kernel's release), /guest/root (the guest's root so far).
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends busybox-static cpio kmod qemu-guest-agent xz-utils zstd
image=$(apt-cache depends "$package" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
cd /tmp
# Since 7.0 the image's package only names two others that hold the kernel and the modules.
parts=$(apt-cache depends "$image" | sed -n 's/.*Depends: \(linux-\(binary\|modules\)-.*\)/\1/p')
apt-get download $image $parts
for deb in linux-*.deb; do dpkg-deb -x "$deb" /tmp/kernel; done
cp "$(find /tmp/kernel -name 'vmlinuz*' | head -n 1)" /guest/vmlinuz

modules=$(dirname "$(find /tmp/kernel -name modules.builtin | head -n 1)")
# No machine of the tests has what these drive, and they are most of a whole kernel.
(cd "$modules/kernel" && rm -rf sound drivers/gpu drivers/infiniband drivers/media drivers/net/wireless drivers/staging)
find "$modules" -name '*.ko.xz' -exec xz -d {} +
find "$modules" -name '*.ko.zst' -exec zstd -qd --rm {} +
mkdir -p "/tmp/flat/lib/modules"
mv "$modules" /tmp/flat/lib/modules/
depmod -b /tmp/flat "$(basename "$modules")"
mv "/tmp/flat/lib/modules/$(basename "$modules")" /guest/modules
basename "$modules" >/guest/modules/release

mkdir -p /guest/root/bin
cp /bin/busybox /guest/root/bin/busybox
cp "$(command -v qemu-ga)" /guest/root/bin/qemu-ga
for library in $(ldd /guest/root/bin/qemu-ga | grep -o '/[^ )]*\.so[^ )]*'); do
    mkdir -p "/guest/root$(dirname "$library")"
    cp -L "$library" "/guest/root$library"
done
