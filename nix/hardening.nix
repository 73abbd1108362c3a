# What the gateway's unit gives up. With bubblewrap it keeps what that program needs to build a
# wall for each skill; without, skills run behind Landlock inside this unit's own bounds.
{ lib, bubblewrap }:
{
  CapabilityBoundingSet = "";
  AmbientCapabilities = "";
  DevicePolicy = "closed";
  IPAccounting = true;
  KeyringMode = "private";
  LockPersonality = true;
  MemoryDenyWriteExecute = !bubblewrap; # browsers, which skills start behind bubblewrap only, compile
  NoNewPrivileges = true;
  NotifyAccess = "none";
  PrivateDevices = true;
  PrivateMounts = true;
  PrivateTmp = true;
  PrivateUsers = true;
  ProcSubset = "all"; # memory is divided by /proc/meminfo
  ProtectClock = true;
  ProtectControlGroups = true;
  ProtectHome = true;
  ProtectHostname = !bubblewrap;
  ProtectKernelLogs = !bubblewrap; # over a /proc that is covered no new one can be mounted
  ProtectKernelModules = true;
  ProtectKernelTunables = !bubblewrap;
  ProtectProc = if bubblewrap then "default" else "invisible";
  ProtectSystem = "strict";
  RemoveIPC = true;
  RestrictAddressFamilies = [
    "AF_INET"
    "AF_INET6"
    "AF_UNIX"
  ]
  ++ lib.optional bubblewrap "AF_NETLINK"; # brings up the loopback of a network of its own
  RestrictNamespaces = !bubblewrap;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  SystemCallArchitectures = "native";
  SystemCallErrorNumber = "EPERM";
  SystemCallFilter = [
    "@system-service"
    "~@privileged"
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp"
  ]
  ++ lib.optional bubblewrap "@mount sethostname";
  UMask = "0077";
}
