#!/usr/bin/perl
# A stand-in for QEMU that runs no guest. It speaks QMP on the socket that it inherits, writes the commands it
# gets to /run/stand-in/commands, and answers `cont` only when there is a file /run/stand-in/go.
use strict;
use warnings;
use IO::Handle;

# It does not say what it is: a usual QEMU then.
exit 1 if grep { /^none,accel=/ } @ARGV;

my $monitor;
for my $i (1 .. $#ARGV) {
    # The shim's monitor; the management daemon's is connected already, too.
    next unless $ARGV[$i - 1] eq '-chardev' && $ARGV[$i] =~ /^socket,id=charshim,/;
    ($monitor) = $ARGV[$i] =~ /,fd=(\d+)/;
}
die "no monitor in: @ARGV\n" unless defined $monitor;
open(my $qmp, '+<&=', $monitor) or die "fd $monitor: $!\n";
open(my $commands, '>>', '/run/stand-in/commands') or die "/run/stand-in/commands: $!\n";
$_->autoflush for $qmp, $commands;

sub say_qmp { print $qmp "$_[0]\r\n" }

say_qmp('{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}');
while (my $line = <$qmp>) {
    my ($command) = $line =~ /"execute"\s*:\s*"([^"]+)"/ or next;
    my ($id) = $line =~ /"id"\s*:\s*("[^"]*"|[0-9]+)/;
    $id = defined $id ? ", \"id\": $id" : '';
    print $commands "$command\n";
    if ($command eq 'cont') {
        select(undef, undef, undef, 0.02) until -e '/run/stand-in/go';
    }
    say_qmp('{"return": ' . ($command eq 'query-chardev' ? '[]' : '{}') . $id . '}');
    my $event = { cont => '"RESUME"', system_powerdown => '"SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}' }->{$command};
    say_qmp("{\"timestamp\": {\"seconds\": 1, \"microseconds\": 0}, \"event\": $event}") if $event;
    exit 0 if $command eq 'quit';
}
