{ config, pkgs, ... }:

{
  networking.hostName = "shop"
  services.openssh.enable = true;
}
