#!/usr/bin/python3
# Opens the console of a guest over D-Bus, types a line, and prints what the guest says until it has both echoed the line
# and said something of its own. A second opener is to be refused meanwhile; what it is told is the first line.
#
#   console.py OBJECT LINE OWN
import os
import select
import sys
import time

import dbus

NAME = "org.glassbox.Glassbox1"
path, line, own = sys.argv[1:]
guest = dbus.Interface(dbus.SystemBus().get_object(NAME, path), NAME + ".Domain")
console = guest.OpenConsole("").take()
try:
    guest.OpenConsole("serial0")
    print("a second one was let in")
except dbus.DBusException as error:
    print(error.get_dbus_message())
os.write(console, line.encode() + b"\n")
said = ""
deadline = time.monotonic() + 60
while line not in said or own not in said:
    if not select.select([console], [], [], max(0, deadline - time.monotonic()))[0]:
        sys.exit("the guest says nothing more after: " + said)
    said += os.read(console, 4096).decode(errors="replace")
print(said)
