{ config, pkgs, ... }:

{
  imports = [ ./hardware-configuration.nix ];
  networking = {
    hostName = "shop";
    firewall.allowedTCPPorts = [ 22 80 443 ];
  };
  services.openssh.enable = true;
  services.openssh.settings.PermitRootLogin = "yes";
  services.nginx.enable = true;
  environment.systemPackages = with pkgs; [ git helix ];
  system.stateVersion = "24.11";
}
