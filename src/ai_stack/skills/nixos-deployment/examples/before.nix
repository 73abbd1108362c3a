{ config, pkgs, ... }:

{
  imports = [ ./hardware-configuration.nix ];
  networking.hostName = "shop";
  networking.firewall.allowedTCPPorts = [ 22 80 ];
  services.openssh = {
    enable = true;
    settings.PermitRootLogin = "no"; # keys only
  };
  environment.systemPackages = with pkgs; [ vim git ];
  system.stateVersion = "24.11";
}
