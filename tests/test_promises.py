"""What the data guide and the README promise of data, each with the test that holds it.

A quotation that leaves the page, or a test that leaves the suite, is seen here. The rows are not all that the pages say:
a section of the guide has at least one, and a promise that somebody missed gets its own.
"""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE, MEASURES, README, PEOPLE = "docs/data.md", "docs/measures.md", "README.md", "docs/person_search.md"
PROMISES = [
    # How a source is written
    (GUIDE, "The place alone is enough where it tells the kind", "data/test_written.py::test_what_lies_at_a_place_tells_its_kind"),
    (GUIDE, "the same on the command line and in a recipe", "data/test_written.py::test_a_plain_place_works_wherever_a_source_is_taken"),
    (GUIDE, "you are told the line to type", "data/test_written.py::test_what_is_not_certain_is_told_with_the_line_to_type"),
    (GUIDE, "A comma, a colon or a bracket belongs to the name where such a file or folder is there", "data/test_written.py::test_what_lies_at_a_place_tells_its_kind"),
    (GUIDE, "A folder that is called like a kind is `./scenes`", "data/test_written.py::test_a_folder_that_reinforce_wrote_is_reinforced_and_a_kind_that_opens_alone_is_no_folder"),
    (GUIDE, "`~` is your home folder", "data/test_written.py::test_a_home_folder_is_found_in_a_mapping_too"),
    (GUIDE, "Relative paths are looked for where you stand, then below `$POCKETCLIP_DATA`", "data/sources/test_image_files.py::test_a_relative_place_is_looked_for_in_the_data_folder"),
    # What is read
    (GUIDE, "(or `dog.TXT`, `dog.jpg.txt`)", "data/sources/test_folder_walk.py::test_these_are_captions_of_a_picture"),
    (GUIDE, "whose other keys are metadata; at any depth", "data/sources/test_folder_walk.py::test_further_keys_beside_captions_are_metadata"),
    (GUIDE, "Links are followed, each real file once; hidden files are none", "data/sources/test_folder_walk.py::test_links_are_followed_and_each_real_file_is_read_once"),
    (GUIDE, "takes each folder directly below as a class", "data/test_labels.py::test_a_folder_is_a_class_where_asked_for"),
    (GUIDE, "The separator of a CSV is found from its header; `.gz` is unpacked", "data/sources/test_table_kinds.py::test_tables_are_read_as_they_are"),
    (GUIDE, "Members of a key need not stand together", "data/sources/test_webdataset.py::test_members_are_joined_wherever_they_stand"),
    (GUIDE, "All other members are counted", "data/sources/test_webdataset.py::test_what_is_no_sample_is_counted_by_name"),
    (GUIDE, "names that lead to one file are one image", "data/sources/test_coco.py::test_coco_joins_what_is_one_picture"),
    (GUIDE, "`train+restval` joins two", "data/sources/test_coco.py::test_karpathy_gives_the_images_of_its_splits"),
    (GUIDE, "`max_captions=5` keeps the first five of an image", "data/sources/test_coco.py::test_the_first_captions_of_an_image_are_kept_where_a_number_is_given"),
    (GUIDE, "an id of two images is refused", "data/sources/test_coco.py::test_one_id_for_two_pictures_is_refused"),
    (GUIDE, "images without a caption are counted", "data/sources/test_coco.py::test_what_coco_passes_over_is_counted"),
    (GUIDE, "or all right in `images`", "data/sources/test_coco.py::test_karpathys_pictures_may_lie_flat"),
    (GUIDE, "with a split list", "data/sources/test_flickr.py::test_a_split_list_chooses_images_with_and_without_their_ending"),
    (GUIDE, "rows of equal pictures are joined", "data/sources/test_hub.py::test_rows_of_equal_pictures_are_one_sample"),
    (GUIDE, "no concept is in two splits", "data/sources/test_openmoji.py::test_no_concept_is_in_two_splits"),
    (GUIDE, "from those of SugarCrepe's seven files that are there, or from one", "data/sources/test_choice_files.py::test_sugarcrepes_files_are_one_source_with_each_picture_once"),
    (GUIDE, "two pictures that share two captions; names of pictures need no suffix", "data/sources/test_choice_files.py::test_winogrounds_pictures_share_their_captions"),
    (GUIDE, "the part inside the picture is cut out", "data/sources/test_choice_files.py::test_aros_parts_of_a_picture_are_pictures_of_their_own"),
    (GUIDE, "which are shuffled here, by `seed`", "data/sources/test_choice_files.py::test_the_seed_changes_the_shuffles_and_nothing_else_does"),
    (GUIDE, "a true sentence and one that is false since the groups are exchanged", "data/sources/test_scenes.py::test_the_false_caption_of_a_scene_is_true_of_its_twin_alone"),
    (GUIDE, "`data convert`, `data filter`, `data mix` and `reinforce` refuse them", "cli/test_false_captions.py::test_nothing_takes_false_captions_for_true_ones"),
    (MEASURES, "A tie is wrong, and cosines closer than 1e-6 are ties", "evaluate/test_choice.py::test_a_tie_is_wrong"),
    (MEASURES, "`--set mean_over=all` counts all", "evaluate/test_choice.py::test_the_mean_is_over_what_the_published_one_counts"),
    (MEASURES, "words exchanged inside every three of them, and the threes exchanged", "data/sources/test_choice_files.py::test_captions_are_shuffled_within_threes_of_words_and_threes_among_each_other"),
    (GUIDE, "has seen no emoji of the `test` of any style", "data/sources/test_iconify.py::test_an_emoji_is_in_the_split_of_its_name_as_of_openmoji"),
    (GUIDE, "keeps those that all have", "data/sources/test_iconify.py::test_only_what_other_sets_have_where_asked"),
    (GUIDE, "takes label and tags as captions", "data/sources/test_iconify.py::test_label_and_tags_are_captions_where_given"),
    (GUIDE, "The licence is in every record", "data/sources/test_iconify.py::test_the_makers_are_named_in_records"),
    # Pictures of people
    (GUIDE, "Conversion, filters and subsets keep it", "data/test_identities.py::test_parts_and_converted_shards_keep_it"),
    (GUIDE, "a mix puts the source's number before it", "curate/test_mix.py::test_people_of_different_sources_are_different"),
    (GUIDE, "pictures of one identity are held out together", "data/test_identities.py::test_who_is_held_out_is_in_no_training_picture"),
    (PEOPLE, "someone in two splits is refused", "data/sources/test_people.py::test_an_identity_in_two_splits_is_refused"),
    (PEOPLE, "then those are read as `test-ID`", "data/sources/test_people.py::test_icfg_may_number_the_people_of_its_test_part_anew"),
    (PEOPLE, "shares a full description with anybody in another, whatever the seed", "data/sources/pedestrians/test_world.py::test_no_full_description_is_in_two_splits_or_twice_in_one"),
    (PEOPLE, "no setting but `seed` changes a picture", "data/sources/pedestrians/test_source.py::test_no_other_setting_changes_a_picture"),
    (PEOPLE, "captions of a mirrored picture have left and right exchanged", "data/batches/test_loader.py::test_captions_of_mirrored_pictures_have_left_and_right_swapped"),
    # The same picture
    (GUIDE, "Rows of a table that name one file, or hold the same bytes, are joined", "data/sources/test_table_kinds.py::test_parquet_rows_of_equal_bytes_are_one_picture"),
    (GUIDE, "a copy is never on both sides", "data/test_splits.py::test_copies_stay_together"),
    (GUIDE, "drawings go by their bytes alone", "data/test_splits.py::test_drawings_are_compared_by_what_is_drawn"),
    (GUIDE, "finding any of its copies is right", "evaluate/test_gallery.py::test_copies_score_what_joined_pictures_score"),
    (GUIDE, "a copy of an image is no negative of it", "data/batches/test_loader.py::test_a_copy_of_an_image_is_no_negative_of_it"),
    (GUIDE, "What two of them share is told with names", "run/test_data.py::test_a_small_overlap_is_told_and_a_large_one_refused"),
    (GUIDE, "is refused unless `data.allow_overlap: true`", "run/test_data.py::test_an_overlap_is_allowed_by_name"),
    (GUIDE, "at most 256 KiB", "test_sketch.py::test_it_is_read_back"),
    (GUIDE, "The bytes are read once", "data/test_identity.py::test_pictures_are_read_once_for_as_long_as_they_stay"),
    (GUIDE, "Bytes that were changed and dated back are seen", "data/test_identity.py::test_other_bytes_of_the_same_size_and_time_are_seen"),
    (GUIDE, "files that were only touched or moved are told", "run/test_data.py::test_it_goes_on_with_files_that_were_touched_or_moved"),
    (GUIDE, "is named and refused, since other pictures would be held out", "run/test_data.py::test_a_run_does_not_go_on_with_other_data"),
    (GUIDE, "`--verify` reads every picture again", "cli/test_stages.py::test_verified_work_does_not_go_on_with_other_bytes"),
    # Several sources in one
    (GUIDE, "What each rule dropped is counted", "curate/test_filter.py::test_verdicts_equal_a_loop_over_the_samples"),
    (GUIDE, "Items are drawn by `--seed` before anything is dropped", "curate/test_mix.py::test_a_weight_takes_a_share_of_the_items"),
    (GUIDE, "is never written", "curate/test_mix_verdict.py::test_held_out_comes_before_without_caption_before_duplicate"),
    (GUIDE, "HTML entities and marks, web addresses, control and invisible characters go", "curate/test_clean.py::test_text_is_made_readable"),
    (GUIDE, "`--join-captions` gives it the captions of the others", "curate/test_mix.py::test_captions_of_duplicates_may_be_joined"),
    (GUIDE, "A smaller weight takes some of what a larger one takes", "curate/test_mix.py::test_a_draw_is_a_share_the_same_every_time_and_holds_the_smaller_ones"),
    (GUIDE, "Captions of fewer than 2 or more than 128 words are dropped", "curate/test_clean.py::test_everything_stays_by_default_but_single_words_and_pages"),
    (GUIDE, "The one with the most captions stays, of equals the first", "curate/test_mix_verdict.py::test_the_one_with_more_captions_stays"),
    (GUIDE, "No two pictures that stay are near each other", "curate/test_near_duplicates.py::test_who_stays_equals_taking_turns_by_hand"),
    (GUIDE, "Sources are interleaved evenly", "curate/test_mix_verdict.py::test_what_stays_is_spread_evenly_in_the_order_of_each_source"),
    (GUIDE, "class labels are dropped", "curate/test_mix.py::test_samples_say_their_source_and_lose_their_label"),
    (GUIDE, "`--dry-run` counts without writing", "curate/test_mix.py::test_a_dry_run_tells_the_plan_and_a_resumed_one_writes_it"),
    # Broken items
    (GUIDE, "From 20 of them on a share of 1 % of the whole source", "stages/test_watch.py::test_a_few_items_and_as_many_as_the_share_allows_may_be_broken"),
    (GUIDE, "one on which a library fails in any other way", "cli/test_odd_photos.py::test_it_is_named_and_the_work_goes_on"),
    (GUIDE, "all of them and why, one a line", "cli/test_inspect.py::test_broken_lists_all_that_training_leaves_out"),
    (GUIDE, "a picture of more than 100 million pixels", "data/pictures/test_decode.py::test_a_picture_over_the_limit_is_refused_by_its_header"),
    (GUIDE, "On a terminal, control characters are shown as escapes", "test_errors.py::test_what_would_act_on_a_terminal_is_shown_as_an_escape"),
    (GUIDE, "the files of all pictures without a caption", "cli/test_inspect.py::test_uncaptioned_lists_the_files_alone"),
    (GUIDE, "What a reader saw and passed over", "cli/test_inspect.py::test_what_was_passed_over_is_told"),
    (GUIDE, "`json.loads` in Python gives the file's name back", "cli/test_odd_names.py::test_embed_index_and_search_give_the_names_back"),
    (GUIDE, "and HEIC with the extra `heic`", "data/sources/test_folder_walk.py::test_these_are_pictures"),
    (GUIDE, "greys are scaled by the range that they fill", "test_preprocess.py::test_greys_of_any_range_are_as_bright_as_they_were"),
    (GUIDE, "EXIF rotation is applied", "data/pictures/test_decode.py::test_a_picture_with_exif_rotation_comes_out_upright"),
    # Subsets and rows
    (GUIDE, "what was measured of every image, dropped or not", "cli/test_filter.py::test_scores_of_a_model_rank_a_subset"),
    (GUIDE, "so filtering needs no copy of them", "cli/test_filter.py::test_a_list_of_ids_needs_no_shards_and_is_read_by_a_recipe"),
    (GUIDE, "A small subset is inside a large one", "data/test_subset.py::test_a_small_count_is_inside_a_large_one"),
    (GUIDE, "whatever the files are called and wherever they lie", "data/test_subset.py::test_the_same_pictures_are_drawn_wherever_they_lie_and_in_whatever_order"),
    (GUIDE, "is the same for every subset", "run/test_data.py::test_what_is_held_out_is_the_same_for_every_subset"),
    (GUIDE, "`--resume` refuses to go on with a list that has changed", "run/test_data.py::test_a_run_does_not_go_on_with_another_subset"),
    (GUIDE, "so pictures are opened once", "data/test_subset.py::test_measures_are_kept_so_pictures_are_opened_once"),
    (GUIDE, "are as many steps where both are whole batches", "run/test_train.py::test_fewer_samples_more_often_are_as_many_steps_and_samples"),
    (GUIDE, "as sorted pairs of 64 bits (`u8,u8`), byte for byte", "data/test_ids.py::test_a_subset_file_is_that_of_datacomp_byte_for_byte"),
    (GUIDE, "a recipe finds them in `uid` of the samples' JSON", "data/test_subset.py::test_uids_of_datacomp_are_found_in_metadata_or_as_keys"),
    (GUIDE, "the score at place N x share is the least that stays", "curate/test_rows.py::test_a_share_is_cut_where_datacomp_cuts_it"),
    (GUIDE, "a column `language` with the codes of a better judge goes before it", "curate/test_rows.py::test_a_column_says_the_language_where_there_is_one"),
    # Shards
    (GUIDE, "A stopped conversion goes on when called again", "data/test_shards.py::test_a_stopped_conversion_goes_on_to_the_same_bytes"),
    (GUIDE, "a shard is there whole or not at all", "data/test_shards.py::test_a_stop_inside_a_shard_leaves_no_part_of_it"),
    (GUIDE, "Pictures are written byte for byte, with their EXIF orientation", "data/test_shards.py::test_pictures_keep_their_orientation_and_bytes"),
    (GUIDE, "the names of classes into `classnames.txt`", "data/test_shards.py::test_classes_keep_their_names_and_order"),
    (GUIDE, "`data filter` keeps all of these, too", "data/test_shards.py::test_content_survives_conversion_and_filtering"),
    (GUIDE, "with the same verdict", "data/test_shards.py::test_a_repeated_conversion_tells_the_same_broken_items"),
    (GUIDE, "sees each sample once an epoch", "data/sources/test_webdataset.py::test_any_shards_and_workers_give_every_sample_exactly_once"),
    (GUIDE, "two commands make the shards that the recipes read", "test_pasted_commands.py::test_the_commands_of_a_page_can_be_pasted"),
    # README
    (README, "`dog.jpg` with `dog.txt`, one caption a line", "data/sources/test_folder.py::test_a_text_beside_the_picture_holds_one_caption_a_line"),
    (README, "WebDataset shards from anything", "data/test_shards.py::test_content_survives_conversion_and_filtering"),
    (README, "without near duplicates", "curate/test_mix.py::test_shards_hold_what_stays_with_clean_captions"),
]  # fmt: skip


@functools.cache
def words(page: str) -> str:
    return re.sub(r"\s+", " ", (ROOT / page).read_text())


@functools.cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("page", "promise", "held_by"), PROMISES, ids=[promise for _, promise, _ in PROMISES])
def test_a_promise_stands_on_its_page_and_a_test_holds_it(page: str, promise: str, held_by: str) -> None:
    path, _, name = held_by.partition("::")
    assert promise in words(page)
    assert name in names_in(path)


@pytest.mark.parametrize("section", re.findall(r"^## (.*)$", (ROOT / GUIDE).read_text(), flags=re.MULTILINE))
def test_no_section_of_the_guide_goes_without_a_test(section: str) -> None:
    text = re.sub(r"\s+", " ", (ROOT / GUIDE).read_text().split(f"## {section}\n")[1].split("\n## ")[0])
    if section != "Look before you train":  # what `inspect` shows is a section of its own, Broken items
        assert any(promise in text for page, promise, _ in PROMISES if page == GUIDE)
