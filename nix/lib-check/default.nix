# A small library of the names that the modules use, for checking them where nixpkgs is not.
let
  inherit (builtins)
    attrNames
    concatMap
    foldl'
    isAttrs
    isFunction
    isPath
    listToAttrs
    removeAttrs
    replaceStrings
    stringLength
    substring
    ;

  definitions = import ./definitions.nix;

  lib = rec {
    types = import ./types.nix { inherit definitions; };

    mkOption = option: option // { _type = "option"; };
    mkEnableOption =
      what:
      mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };

    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;

    optional = isWanted: value: if isWanted then [ value ] else [ ];
    optionalString = isWanted: text: if isWanted then text else "";
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    escapeShellArg = text: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
    mapAttrsToList = make: set: map (name: make name set.${name}) (attrNames set);
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    getExe' = package: name: "${package}/bin/${name}";
  };

  # Two trees of options as one; nothing may be declared twice.
  joined =
    left: right:
    let
      isDeclared = tree: isAttrs tree && tree._type or "" == "option";
      both =
        name:
        if !(left ? ${name}) then
          right.${name}
        else if !(right ? ${name}) then
          left.${name}
        else if isDeclared left.${name} || isDeclared right.${name} then
          throw "The option `${name}' is declared twice."
        else
          joined left.${name} right.${name};
    in
    listToAttrs (
      map (name: {
        inherit name;
        value = both name;
      }) (attrNames (left // right))
    );
in
lib
// {
  # The values of all options that the modules declare.
  evaluate =
    modules: arguments:
    let
      given = arguments // {
        inherit config lib options;
      };
      load =
        module:
        let
          read = if isPath module then import module else module;
          made = if isFunction read then read given else read;
          isLong = made ? options || made ? config;
        in
        concatMap load (made.imports or [ ])
        ++ [
          {
            options = made.options or { };
            config = if isLong then made.config or { } else removeAttrs made [ "imports" ];
          }
        ];
      loaded = concatMap load modules;
      options = foldl' joined { } (map (module: module.options) loaded);
      config = definitions.resolved [ ] options (
        concatMap (module: definitions.pushed module.config) loaded
      );
    in
    {
      inherit config options;
    };
}
