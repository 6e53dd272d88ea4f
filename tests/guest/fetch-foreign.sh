# Runs in a throw-away copy of a root: fetches kernel and busybox of another architecture into /guest.
# Written before it: arch=NAME, Debian's name of the architecture, and kernel=PACKAGE.
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg --add-architecture "$arch"
apt-get update
apt-get install -y --no-install-recommends cpio
image=$(apt-cache depends "$kernel:$arch" | sed -n 's/.*Depends: \(linux-image-[0-9][^: ]*\).*/\1/p')
cd /tmp
apt-get download "busybox-static:$arch" "$image:$arch"
for deb in *.deb; do dpkg-deb -x "$deb" /tmp/unpacked; done
cp "$(find /tmp/unpacked/boot -name 'vmlinu[xz]-*' | head -n 1)" /guest/vmlinuz
mkdir -p /guest/root/bin
cp "$(find /tmp/unpacked -name busybox -type f -perm -1 | head -n 1)" /guest/root/bin/busybox
cd /guest/root
find . | cpio -o -H newc --quiet | gzip -1 >/guest/initrd
