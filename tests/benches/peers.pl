#!/usr/bin/perl
# Drives the peers of tests/benches/peers.rs inside the container: prints a line for each run, PEER START STOP MEMORY, in
# milliseconds and KiB. Arguments: the directory of the guest's files, and the number of rounds.
use strict;
use warnings;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);

my ($place, $rounds) = @ARGV;
my $xml = "$place/bench.xml";
my $cache = "$place/libvirt";

# Milliseconds of clock 1, CLOCK_MONOTONIC: Debian's smallest perl has the system call (228 on x86_64) and no module.
sub now {
    my $time = pack 'q2', 0, 0;
    syscall(228, 1, $time) == 0 or die "clock_gettime: $!";
    my ($seconds, $nanoseconds) = unpack 'q2', $time;
    return $seconds * 1e3 + $nanoseconds / 1e6;
}

# Runs a command without input and with its standard error at this handle or nowhere; the result is its process id.
sub spawn {
    my ($error, @command) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    open STDERR, '>&', $error // *STDOUT or die;
    exec @command or die "$command[0]: $!";
}

# After a moment, for what a start needed is given back at its end.
sub resident {
    select undef, undef, undef, 0.2;
    my $sum = 0;
    for my $pid (@_) {
        open my $status, '<', "/proc/$pid/status" or next;
        while (my $line = <$status>) { $sum += $1 if $line =~ /^VmRSS:\s+(\d+)/ }
    }
    return $sum;
}

# Sends a QMP command and waits for its answer, whatever events come before.
sub ask {
    my ($monitor, $command) = @_;
    print $monitor "{\"execute\":\"$command\"}\n";
    while (my $line = <$monitor>) { return if $line =~ /"return"/ }
    die "QEMU closed its monitor before it answered $command";
}

# QEMU with the shim's own arguments and the least client there can be. Sockets that the shim makes and passes by number
# are made by QEMU.
sub raw {
    my @words = split /\n/, qx(glassbox-qemu --print-args $xml);
    s/^socket,id=(\w+),.*/socket,id=$1,path=$place\/raw-$1,server=on,wait=off/ for @words;
    unlink "$place/raw";
    my $listener = IO::Socket::UNIX->new(Local => "$place/raw", Type => SOCK_STREAM, Listen => 1) // die "listen: $!";
    my $began = now;
    my $qemu = spawn(undef, @words, '-chardev', "socket,id=raw,path=$place/raw", '-mon', 'chardev=raw,mode=control');
    my $monitor = $listener->accept // die "accept: $!";
    $monitor->autoflush(1);
    readline($monitor) // die 'QEMU does not greet';
    ask($monitor, 'qmp_capabilities');
    ask($monitor, 'cont');
    my $start = now() - $began;
    $began = now;
    print $monitor "{\"execute\":\"quit\"}\n";
    waitpid $qemu, 0;
    return ($start, now() - $began, 0);
}

# The shim and virt-qemu-run say on standard error that the guest's CPUs run; each is ended by a signal.
sub child {
    my ($signal, @command) = @_;
    pipe my $words, my $error or die "pipe: $!";
    my $began = now;
    my $child = spawn($error, @command, $xml);
    close $error;
    my $said = '';
    while (my $line = <$words>) { $said .= $line; last if $line =~ /guest (is )?running/ }
    die "$command[0] ended: $said" if $said !~ /guest (is )?running/;
    my $start = now() - $began;
    my $memory = resident($child);
    $began = now;
    kill $signal => $child;
    waitpid $child, 0;
    return ($start, now() - $began, $memory);
}

sub shim { return child('QUIT', 'glassbox-qemu', @_) }

sub run { return child('TERM', 'virt-qemu-run', '--verbose', '--root', @_) }

# virsh returns when the guest's CPUs run. Beside QEMU are libvirtd and virtlogd, which serve all guests.
sub virsh {
    my $began = now;
    system("virsh --quiet create $xml >/dev/null") == 0 or die 'virsh create';
    my $start = now() - $began;
    my $memory = resident(split ' ', qx(pidof libvirtd virtlogd));
    $began = now;
    system('virsh --quiet destroy bench >/dev/null') == 0 or die 'virsh destroy';
    return ($start, now() - $began, $memory);
}

sub fresh {
    my ($root) = @_;
    system("rm -rf $root; mkdir -p $root/etc; cp /etc/libvirt/qemu.conf $root/etc/qemu.conf");
    return $root;
}

# What is cold has nothing that it keeps between its runs. All of it is in the page cache, as QEMU is.
my @peers = (
    ['raw QEMU' => \&raw],
    ['shim, cold' => sub { system("rm -rf /run/glassbox/spawned /run/glassbox/claim"); shim('--register=no') }],
    ['shim' => sub { shim('--register=no') }],
    ['shim, registered' => sub { shim('--register=required') }],
    ['shim, standalone' => sub { shim('--standalone') }],
    ['virt-qemu-run, cold' => sub { run(fresh("$place/cold")) }],
    ['virt-qemu-run' => sub { run("$place/warm") }],
    ['virsh create' => \&virsh],
);
fresh("$place/warm");
$| = 1;
for my $peer (@peers) { $peer->[1]->() } # The first run of each fills the page cache, and the caches of the warm ones.
for (1 .. $rounds) {
    for my $peer (@peers) {
        printf "%s\t%.2f\t%.2f\t%d\n", $peer->[0], $peer->[1]->();
    }
}
