"""Which kind of word an English word usually is, by lists and endings: no tagger that looks at the sentence.

Words of closed classes (articles, prepositions, pronouns and the like) are listed nearly whole, adjectives and verbs as
far as captions of photographs use them, and what is in no list and has no telling ending is a noun. So a word that can
be two things is always the same one (`play` is a verb, `light` a noun), and every word of another language is a noun.
"""

import functools

NOUN, ADJECTIVE, VERB, OTHER = range(4)
"""From what CLIPA keeps first to what it keeps last."""

_OTHERS = """
a an the this that these those some any each every no another other others both either neither all such same own i you
he she it we they me him her us them my your his its our their mine yours hers ours theirs myself himself herself
itself themselves who whom whose which what where when why how someone somebody something anyone anything everyone
everything nobody nothing one ones and or but nor so yet if because as than whether although though while whilst until
unless since of in on at by for with from to into onto upon over under above below beneath underneath behind beside
besides between among amongst amid through throughout across along alongside around about against near nearby toward
towards off out outside inside within without up down before after during past via per like unlike despite except atop
aboard beyond opposite not n't also too very just only even still again then there here now together away apart ahead
forward forwards backward backwards back upside indoors outdoors downhill uphill maybe perhaps almost quite rather
really more most less least much many few several lot lots bunch is are was were be been being am 's has have had
having do does did doing done will would can could may might must shall should 're 've 'll
"""
_VERBS = """
run runs ran jump jumps sit sits sat stand stands stood walk walks lie lies lay lays laid lean leans leaped leapt play
plays hold holds held ride rides rode ridden swim swims swam climb climbs look looks watch watches carry carries wear
wears wore worn get gets got gotten go goes went gone come comes came take takes took taken make makes made throw
throws threw thrown catch catches caught chase chases fly flies flew fall falls fell fallen kick kicks hit hits eat
eats ate eaten drink drinks drank bite bites bit bitten sleep sleeps slept smile smiles laugh laughs talk talks sing
sings dance dances pose poses perform performs show shows shown see sees saw seen say says said read reads write
writes wrote written draw draws paint paints leave leaves left let lets put puts pull pulls push pushes reach reaches
rest rests wait waits give gives gave given use uses hang hangs hung leap leaps turn turns try tries tried attempt
attempts move moves pass passes splash splashes surf surfs skate skates ski skis fight fights fish race races shake
shakes swing swings slide slides stick sticks stop stops prepare prepares enjoy enjoys appear appears kneel kneels
crouch crouches balance balances cross crosses enter enters follow follows face faces gather gathers hug hugs kiss
kisses lick licks opens point points raise raises speak speaks spray sprays stare stares step steps toss tosses touch
touches wade wades wave waves compete competes dig digs dive dives drive drives feed feeds fed lead leads led meet
meets met cook cooks cut cuts kept keep keeps set sets tackle tackles travel travels wrestle wrestles blow blows break
breaks bring brings brought build builds built buy buys call calls celebrate celebrates check checks cleans contain
contains cover covers display displays fill fills find finds found fix fixes grab grabs help helps land lands listen
listens pet pick picks place places relax relaxes sell sells serve serves share shares shoot shoots shot tie ties wash
washes work works
"""
_ADJECTIVES = """
black white red blue green yellow brown orange pink purple grey gray tan golden gold silver beige blond blonde dark
light bright brightly pale colorful colourful colored coloured multicolored striped spotted plaid checkered clear
camouflage big small little large tiny huge giant tall short long wide narrow thick thin deep shallow high low flat
steep round square curly straight young old older elderly younger new ancient modern happy sad angry funny beautiful
pretty cute lovely wet dry hot cold warm cool dirty clean muddy dusty sandy snowy grassy rocky rainy sunny cloudy
foggy icy stormy windy grey-haired wooden plastic metal concrete brick empty full busy crowded open closed bare naked
shirtless barefoot bald fat heavy soft hard rough smooth fluffy furry shaggy hairy fresh frozen rural urban public
private outdoor indoor male female asian african american english chinese japanese german french indian italian
spanish british european white-haired two three four five six seven eight nine ten eleven twelve dozen hundred first
second third last next half single double middle front rear top bottom upper lower left-hand right right-hand main
different similar various adult teenage human wild blurry ready fast slow quick quiet loud strong weak poor rich free
safe alone asleep awake airborne inflatable electric plain fancy formal casual professional martial stuffed wooded
paved fenced bearded
"""
_NAMES = """
thing king ring wing string spring sling bling building clothing railing ceiling wedding evening morning painting
crossing lightning sibling duckling dumpling earring bed sled shed weed seed speed bleed steed breed reed deed family
lily belly butterfly jelly bully rally folly doll trolley valley barley ally italy reply supply table vegetable cable
fable bible bus bonus circus cactus octopus campus virus census crocus walrus festival animal hospital signal oval
medal meal total rival arrival petal pedal canal mall wall hall ball goal coal seal carnival sandal material motive
detective olive hive archive locomotive relative
"""
_BY_LIST = {
    **dict.fromkeys(_NAMES.split(), NOUN),
    **dict.fromkeys(_VERBS.split(), VERB),
    **dict.fromkeys(_ADJECTIVES.split(), ADJECTIVE),
    **dict.fromkeys(_OTHERS.split(), OTHER),
}
_BY_ENDING = (
    ("ing", VERB),
    ("ed", VERB),
    ("ly", OTHER),
    ("ous", ADJECTIVE),
    ("ful", ADJECTIVE),
    ("less", ADJECTIVE),
    ("ish", ADJECTIVE),
    ("able", ADJECTIVE),
    ("ible", ADJECTIVE),
    ("ive", ADJECTIVE),
    ("ical", ADJECTIVE),
)
_SHORTEST_STEM = 3  # `red` and `sing` end in no ending


@functools.lru_cache(maxsize=1 << 16)
def kind_of_word(word: str) -> int:
    """One of `NOUN`, `ADJECTIVE`, `VERB` and `OTHER`; signs that are no word are the last."""
    word = word.lower().replace("’", "'")
    if not any(letter.isalnum() for letter in word):
        return OTHER
    listed = _BY_LIST.get(word, _BY_LIST.get(word.removesuffix("'s")))
    if listed is not None:
        return listed
    if word[0].isdigit():
        return ADJECTIVE
    for ending, kind in _BY_ENDING:
        if word.endswith(ending) and len(word) >= len(ending) + _SHORTEST_STEM:
            return kind
    return NOUN
