#!/usr/bin/perl
# A stand-in for QEMU that runs no guest and misbehaves, for what the real one cannot be brought to do.
# STAND_IN says how, STAND_IN_DIRECTORY is where it writes its process id, the events that it sent, and that it
# was asked to power down.
use strict;
use warnings;
use Fcntl;
use POSIX ();

my ($how, $directory) = @ENV{qw(STAND_IN STAND_IN_DIRECTORY)};
my ($fd) = map { /^socket,.*,fd=(\d+)/ && !/server=on/ ? $1 : () } @ARGV;
die "no monitor in: @ARGV\n" unless defined $fd;
open(my $qmp, '+<&=', $fd) or die "fd $fd: $!\n";
my ($input, $misbehaved) = ('', 0);
my $greeting = '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}';
answer_questions() if grep { /^none,accel=/ } @ARGV;
note('pid', $$);
# As QEMU does: disks are written out, and the end is a success.
$SIG{TERM} = sub { note('terminated', 1); POSIX::_exit(0) };

wait_for_the_end() if $how eq 'never-greets';
exit 1 if $how eq 'fails';
say_qmp($how eq 'greets-with-garbage' ? 'hello' : $greeting) unless $how eq 'greets-without-end';
pour('x' x 65536, 1024) if $how eq 'greets-without-end';
while (defined(my $line = read_line())) {
    my ($command) = $line =~ /"execute"\s*:\s*"([^"]+)"/ or next;
    my ($id) = $line =~ /"id"\s*:\s*(\d+)/;
    exit 1 if $command eq 'cont' && $how eq 'exits-before-cont';
    kill KILL => $$ if $command eq 'cont' && $how eq 'dies-before-cont';
    wait_for_the_end() if $command eq 'cont' && $how eq 'never-answers-cont';
    say_qmp('{"return": ' . ($command eq 'query-chardev' ? '[]' : '{}') . ", \"id\": $id}");
    note('running', 1) if $command eq 'cont';
    power_down() if $command eq 'system_powerdown';
    exit 0 if $command eq 'quit';
    misbehave() if $command eq 'cont' && !$misbehaved++;
}
wait_for_the_end();

# What a QEMU says of itself when it is asked before a start: this one misbehaves only when it has a guest.
sub answer_questions {
    my @devices = qw(isa-serial pcie-root-port qemu-xhci virtio-balloon-pci virtio-blk-pci
        virtio-net-pci virtio-rng-pci virtio-serial-pci virtserialport usb-tablet VGA virtio-vga);
    my %answers = (
        'query-version' => '{"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": "stand-in"}',
        'query-machines' => '[{"name": "pc-q35-10.0", "alias": "q35", "default-cpu-type": "qemu64-x86_64-cpu"}]',
        'qom-list-types' => '[' . join(', ', map { "{\"name\": \"$_\"}" } @devices) . ']',
        'query-cpu-definitions' => '[]',
        'qmp_capabilities' => '{}',
    );
    say_qmp($greeting);
    while (defined(my $line = read_line())) {
        my ($command, $id) = ($line =~ /"execute"\s*:\s*"([^"]+)"/, $line =~ /"id"\s*:\s*(\d+)/);
        my $answer = $answers{$command};
        my $error = '"error": {"class": "CommandNotFound", "desc": "no such command"}';
        say_qmp('{' . (defined $answer ? "\"return\": $answer" : $error) . ", \"id\": $id}");
    }
    POSIX::_exit(0);
}

sub misbehave {
    if ($how eq 'closes-its-monitor') { close $qmp; wait_for_the_end() }
    if ($how eq 'sends-64-mib') { pour('x' x 65536, 1024) }
    if ($how eq 'floods') { flood() }
}

sub power_down {
    note('asked', 1);
    say_qmp(event('SHUTDOWN', '{"guest": true, "reason": "guest-shutdown"}')) unless $how eq 'ignores-its-button';
}

# Events for ever, as many as are taken, until somebody asks for something.
sub flood {
    fcntl($qmp, F_SETFL, fcntl($qmp, F_GETFL, 0) | O_NONBLOCK);
    my $events = join('', map { event('STOP', '{}') . "\r\n" . event('RESUME', '{}') . "\r\n" } 1 .. 200);
    my ($sent, $rest) = (0, '');
    until (readable(0)) {
        $rest = $events if $rest eq '';
        my $written = syswrite($qmp, $rest);
        if (defined $written) { $sent += $written; substr($rest, 0, $written, '') }
        else { my $set = ''; vec($set, $fd, 1) = 1; select(undef, $set, undef, 0.01) }
    }
    note('events', int($sent / length($events) * 400));
    fcntl($qmp, F_SETFL, fcntl($qmp, F_GETFL, 0) & ~O_NONBLOCK);
    syswrite($qmp, $rest);
}

sub event { "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 0}, \"event\": \"$_[0]\", \"data\": $_[1]}" }

# Writes a text so many times. Whoever gives up reading closes, which is no reason to die here.
sub pour {
    my ($text, $times) = @_;
    local $SIG{PIPE} = 'IGNORE';
    my $written = 0;
    for (1 .. $times) { $written += syswrite($qmp, $text) // last }
    note('poured', $written);
}

sub say_qmp { local $SIG{PIPE} = 'IGNORE'; syswrite($qmp, "$_[0]\r\n") }

sub readable { my $set = ''; vec($set, $fd, 1) = 1; return select($set, undef, undef, $_[0]) > 0 }


sub read_line {
    while (index($input, "\n") < 0) { sysread($qmp, $input, 4096, length $input) or return undef }
    return substr($input, 0, index($input, "\n") + 1, '');
}

sub wait_for_the_end { sleep(1) while 1 }

# The file appears with its whole content.
sub note {
    my ($name, $text) = @_;
    open(my $file, '>', "$directory/$name.new") or die "$directory/$name: $!\n";
    print $file $text;
    close $file;
    rename("$directory/$name.new", "$directory/$name");
}
