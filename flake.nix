{
  description = "AI on your own machine: documents, search and language models behind one gateway";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      system = "x86_64-linux"; # what the wheels of the lock are fetched and tested for
      pkgs = nixpkgs.legacyPackages.${system};
    in
    {
      packages.${system} = rec {
        ai-stack = pkgs.callPackage ./nix/package.nix { };
        default = ai-stack;
      };

      nixosModules = {
        ai-stack = ./nix/module.nix;
        default = self.nixosModules.ai-stack;
      };
      homeModules = {
        ai-stack = ./nix/home-manager.nix;
        default = self.homeModules.ai-stack;
      };

      devShells.${system}.default = import ./nix/devshell.nix { inherit pkgs; };
      formatter.${system} = pkgs.nixfmt-tree;

      checks.${system} = {
        package = self.packages.${system}.ai-stack;
        machine = import ./nix/vm-test.nix {
          inherit pkgs;
          module = self.nixosModules.default;
        };
      };
    };
}
