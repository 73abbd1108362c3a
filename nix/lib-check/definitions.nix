# How definitions of several modules become the values of options: conditions are carried to
# where the options are, the strongest priority wins, and what has no option is refused.
let
  inherit (builtins)
    all
    attrNames
    concatMap
    concatStringsSep
    filter
    foldl'
    isAttrs
    mapAttrs
    ;

  kind = value: if isAttrs value then value._type or "" else "";
  condition = content: original: original // { inherit content; };
  written = concatStringsSep ".";
in
rec {
  ordinary = 100;
  byDefault = 1500;

  # A set of definitions without conditions or priorities of its own: its values carry them.
  pushed =
    value:
    if kind value == "if" || kind value == "override" then
      map (mapAttrs (_: content: condition content value)) (pushed value.content)
    else if kind value == "merge" then
      concatMap pushed value.contents
    else
      [ value ];

  # What is defined at last, each with its priority.
  discharged =
    value:
    if kind value == "if" then
      if value.condition then discharged value.content else [ ]
    else if kind value == "merge" then
      concatMap discharged value.contents
    else if kind value == "override" then
      map (found: found // { inherit (value) priority; }) (discharged value.content)
    else
      [
        {
          priority = ordinary;
          inherit value;
        }
      ];

  valueOf =
    path: option: given:
    let
      defaults = if option ? default then [ { priority = byDefault; value = option.default; } ] else [ ];
      found = concatMap discharged given ++ defaults;
      strongest = foldl' (
        least: one: if one.priority < least then one.priority else least
      ) 9999 found;
      values = map (one: one.value) (filter (one: one.priority == strongest) found);
    in
    if found == [ ] then
      throw "The option `${written path}' is used but not defined."
    else if !(all option.type.check values) then
      throw "A definition for option `${written path}' is not of type `${option.type.description}'."
    else
      option.type.merge path values;

  resolved =
    path: options: given:
    let
      unknown = filter (name: !(options ? ${name})) (concatMap attrNames given);
      one =
        name: option:
        let
          at = path ++ [ name ];
          own = map (value: value.${name}) (filter (value: value ? ${name}) given);
        in
        if kind option == "option" then
          valueOf at option own
        else
          resolved at option (concatMap pushed own);
    in
    if unknown == [ ] then
      mapAttrs one options
    else
      throw "The option `${written (path ++ [ (builtins.head unknown) ])}' does not exist.";
}
