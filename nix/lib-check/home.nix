# The options of Home Manager that its module sets.
{ lib, ... }:
let
  inherit (lib) types;

  option =
    type: default:
    lib.mkOption {
      inherit type default;
    };
  section = option (types.attrsOf types.unitOption) { };
in
{
  options = {
    assertions = option (types.listOf types.value) [ ];
    home.packages = option (types.listOf types.package) [ ];
    home.sessionVariables = option (types.attrsOf types.str) { };
    systemd.user.services = option (types.attrsOf (types.submodule {
      Unit = section;
      Service = section;
      Install = section;
    })) { };
  };
}
